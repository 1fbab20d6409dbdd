// The stream of server-sent events, read with fetch, because EventSource cannot send the header with the token. In the
// address, the token would appear in the logs of proxies.

const RETRY_MS = [500, 1000, 2000, 5000];
const SILENT_MS = 40000; // the server sends something every 15 s

export const token = new URLSearchParams(location.search).get("token") ?? "";
export const headers = {"X-Pserver-Token": token};

export async function follow(onEvent, onState) {
  for (let failures = 0; ; failures = Math.min(failures + 1, RETRY_MS.length - 1)) {
    const given = new AbortController();
    let timer = 0;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => given.abort(), SILENT_MS);
    };
    try {
      heard();
      const answer = await fetch("events", {
        headers: {...headers, Accept: "text/event-stream"}, signal: given.signal, cache: "no-store",
      });
      if (answer.status === 401) {
        onState("refused");
        return;
      }
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      for await (const [name, data] of events(answer.body, heard)) {
        failures = 0;
        onState("live");
        onEvent(name, JSON.parse(data));
      }
    } catch (error) {
      if (!(error instanceof TypeError || error instanceof DOMException || error instanceof Error)) throw error;
      console.warn("stream:", error.message);
    } finally {
      clearTimeout(timer);
    }
    onState("lost");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[failures]));
  }
}

async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let pieces = [];
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    heard();
    pieces.push(value);
    if (!value.includes("\n\n") && !(value.startsWith("\n") && pieces.length > 1)) continue;
    const blocks = pieces.join("").split("\n\n");
    pieces = [blocks.pop()];
    for (const block of blocks) {
      let name = "message", data = "";
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) yield [name, data];
    }
  }
}

export async function post(address, body) {
  const answer = await fetch(address, {
    method: "POST", headers: {...headers, "Content-Type": "application/json"}, body: JSON.stringify(body),
  });
  const said = await answer.json().catch(() => ({error: `status ${answer.status}`}));
  if (!answer.ok) throw new Error(said.error);
  return said.done;
}
