// A table that updates cells in place, and only if their text changes: focus and selection are kept.

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// A column has: title, value(item) for sorting, show(item) for the text, and optionally className(item), wide (hidden on
// a narrow screen), isNumber, isHead (names the row), fill(cell, item) in place of show.
export class Table {
  constructor(table, columns, {sortable = true, empty = "None"} = {}) {
    this.columns = columns;
    this.empty = empty;
    this.order = null; // column and direction
    this.rows = new Map();
    const head = element("tr");
    this.heads = columns.map((column) => {
      const cell = element("th", classes(column));
      cell.scope = "col";
      if (sortable && column.value) {
        cell.setAttribute("aria-sort", "none");
        const button = element("button", "", column.title);
        button.type = "button";
        button.addEventListener("click", () => this.sortBy(column));
        cell.append(button);
      } else cell.textContent = column.title;
      head.append(cell);
      return cell;
    });
    const thead = element("thead");
    thead.append(head);
    this.body = element("tbody");
    table.append(thead, this.body);
    this.none = element("tr");
    const cell = element("td", "empty", empty);
    cell.colSpan = columns.length;
    this.none.append(cell);
    this.items = [];
  }

  sortBy(column) {
    const direction = this.order?.column === column ? -this.order.direction : column.isNumber ? -1 : 1;
    this.order = {column, direction};
    this.columns.forEach((each, place) => {
      const state = each !== column ? "none" : direction > 0 ? "ascending" : "descending";
      if (each.value) this.heads[place].setAttribute("aria-sort", state);
    });
    this.show(this.items);
  }

  // `items`: pairs of a key and the item for the columns.
  show(items) {
    this.items = items;
    if (this.order) {
      const {column, direction} = this.order;
      const worth = new Map(items.map(([key, item]) => [key, column.value(item)]));
      items = [...items].sort(([a], [b]) => direction * compare(worth.get(a), worth.get(b)));
    }
    const keys = new Set(items.map(([key]) => key));
    for (const [key, row] of this.rows) {
      if (!keys.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
    if (items.length) this.none.remove();
    else this.body.append(this.none);
    let place = this.body.firstElementChild;
    for (const [key, item] of items) {
      let row = this.rows.get(key);
      if (!row) this.rows.set(key, row = this.make());
      this.columns.forEach((column, index) => fill(row.children[index], column, item));
      if (row === place) place = place.nextElementSibling;
      else this.body.insertBefore(row, place);
    }
  }

  make() {
    const row = element("tr");
    for (const column of this.columns) {
      const cell = element(column.isHead ? "th" : "td", classes(column));
      if (column.isHead) cell.scope = "row";
      row.append(cell);
    }
    return row;
  }
}

function classes(column) {
  return [column.isNumber ? "number" : "", column.wide ? "wide" : ""].filter(Boolean).join(" ");
}

function fill(cell, column, item) {
  if (column.fill) {
    column.fill(cell, item);
    return;
  }
  const text = column.show(item) ?? "";
  if (cell.textContent !== text) cell.textContent = text;
  if (column.className) {
    const name = [classes(column), column.className(item)].filter(Boolean).join(" ");
    if (cell.className !== name) cell.className = name;
  }
}

function compare(a, b) {
  if (a == null || b == null) return (a == null) - (b == null);
  return typeof a === "string" ? a.localeCompare(b, "en", {numeric: true}) : a - b;
}
