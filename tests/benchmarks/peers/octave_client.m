% The client of GNU Octave's parallel package, which also starts the server.
%
% Each line of standard input is the name of a work; the answer is a line with its seconds or an error.

1;

function folder = make_login ()
  folder = tempname ();
  mkdir (folder);
  pkg ("prefix", folder, folder);  % the login goes there, and not among the user's packages
  parallel_generate_srp_data ("bench");  % reads the password from standard input
  folder = fullfile (folder, "parallel-srp-data");
end

function start_server (folder)
  programs = {fullfile(fileparts (which ("pserver")), "bin", "octave-pserver"), "/usr/libexec/octave-pserver"};
  program = programs{find (cellfun (@(name) exist (name, "file"), programs), 1)};
  octave = fullfile (OCTAVE_HOME (), "bin", ["octave-cli-", OCTAVE_VERSION()]);
  if (! exist (octave, "file"))
    octave = fullfile (OCTAVE_HOME (), "bin", "octave-cli");
  end
  passwords = fullfile (folder, "server", "passwd");
  if (system (sprintf ("%s --octave-binary='%s' --auth-file='%s' >&2", program, octave, passwords)))
    error ("octave-pserver has failed");
  end
  pause (1);  % it returns before it listens
end

function c = join (folder)
  c = pconnect ({"localhost"}, struct ("password_file", fullfile (folder, "client", "user_passwd")));
end

function check (result, expected)
  if (! isequal (result, expected))
    error ("another result than expected");
  end
end

function seconds = measure (work, c, answering, folder, x)
  server = c(2);
  switch (work)
    case "connect"
      begin = tic ();
      other = join (folder);
      seconds = toc (begin);
      sclose (other);
      return
    case "call"
      begin = tic ();
      reval ("psend (1, sockets(1))", server);
      precv (server);
    case "answer"
      begin = tic ();
      psend (1, answering(2));
      precv (answering(2));
    case "put"
      begin = tic ();
      reval ("b = precv (sockets(1)); psend ([], sockets(1))", server);
      psend (x, server);
      precv (server);
    case "get"
      begin = tic ();
      reval ("psend (a, sockets(1))", server);
      check (size (precv (server)), size (x));
    case "job"
      begin = tic ();
      r = rfeval (@(k) k, 1, 1, [], server);  % without an output it does not wait
      r{1};
    case "map"
      begin = tic ();
      r = netarrayfun (c, @(k) k, 1:1000, "ChunkSize", 50);
      check (r, 1:1000);
    case "argument"
      begin = tic ();
      r = rfeval (@(a) numel (a), x, 1, [], server);
      check (r, {numel(x)});
    case "share"
      begin = tic ();
      r = netarrayfun (c, @(k) system ("sleep 0.2"), 1:20);
      check (r, zeros (1, 20));
  end
  seconds = toc (begin);
end

try
  pkg ("load", "parallel");
  if (! exist ("parallel_generate_srp_data"))
    error ("its parallel package was built without TLS");
  end
  folder = make_login ();
  start_server (folder);
  c = join (folder);
  answering = join (folder);
  reval ("while (true) psend (precv (sockets(1)), sockets(1)); end", answering(2));
  network_set (c, "nlocaljobs", str2double (argv (){end - 1}));
  x = rand (1, str2double (argv (){end}));
  reval ("a = precv (sockets(1));", c(2));
  psend (x, c(2));
  package = pkg ("list", "parallel"){1};
  printf ("\nready %s, parallel %s\n", OCTAVE_VERSION (), package.version);
  fflush (stdout);
  while (ischar (work = fgetl (stdin)))
    if (isempty (work))
      continue
    end
    printf ("seconds %.9f\n", measure (work, c, answering, folder, x));
    fflush (stdout);
  end
  pserver ("kill");
  confirm_recursive_rmdir (false);
  rmdir (fileparts (folder), "s");
catch err
  printf ("\nerror %s\n", strrep (err.message, "\n", " "));
end
