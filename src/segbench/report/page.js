// Tables that sort and filter, and pictures that open large. The page reads the same without.
"use strict";

const FILTERED_FROM = 9; // rows: fewer are seen at a glance

/** What a cell sorts by: its number if it starts with one, else its text. */
function keyOf(cell) {
  const text = (cell?.textContent ?? "").trim();
  const number = parseFloat(text.replace(/^(p|over) ?[=<]? ?/, "").replace("−", "-"));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compareKeys(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1; // what has no number comes last
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const first = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const former = head.ariaSort;
      heads.forEach((other) => (other.ariaSort = null));
      // Ascending, descending, and as it was.
      head.ariaSort = former === "ascending" ? "descending" : former === "descending" ? null : "ascending";
      const sign = head.ariaSort === "descending" ? -1 : 1;
      const rows = [...first];
      if (head.ariaSort) {
        const keys = new Map(rows.map((row) => [row, keyOf(row.cells[column])]));
        rows.sort((a, b) => sign * compareKeys(keys.get(a), keys.get(b)));
      }
      body.append(...rows);
    });
  });
}

function makeFilterable(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < FILTERED_FROM) return;
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = `Filter ${rows.length} rows`;
  field.ariaLabel = field.placeholder;
  const count = document.createElement("span");
  count.className = "note";
  count.setAttribute("role", "status");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => texts.get(row).includes(word));
      shown += !row.hidden;
    }
    count.textContent = field.value ? ` ${shown} shown` : "";
  });
  table.closest(".scroll").before(field, count);
}

/** The pictures of one image, one at a time in the same place, so that they can be told apart. */
function showLarge(dialog, row, at) {
  const pictures = [...row.querySelectorAll("img")];
  const large = document.createElement("img");
  const text = document.createElement("p");
  const tabs = document.createElement("p");
  const show = (next) => {
    at = (next + pictures.length) % pictures.length;
    large.src = pictures[at].src;
    large.alt = text.textContent = pictures[at].alt;
    [...tabs.children].forEach((tab, index) => (tab.ariaPressed = String(index === at)));
  };
  tabs.className = "tabs";
  pictures.forEach((picture, index) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = picture.dataset.shows ?? picture.alt;
    tab.addEventListener("click", () => show(index));
    tabs.append(tab);
  });
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  close.addEventListener("click", () => dialog.close());
  tabs.append(close);
  dialog.replaceChildren(tabs, large, text);
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  };
  show(at);
  dialog.showModal();
}

function makeEnlargeable(dialog) {
  for (const row of document.querySelectorAll(".samples tr, .pair")) {
    row.querySelectorAll("img").forEach((picture, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "picture";
      picture.replaceWith(button);
      button.append(picture);
      button.addEventListener("click", () => showLarge(dialog, row, at));
    });
  }
}

/** A link into what is folded away unfolds it. */
function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
  if (target) target.scrollIntoView();
}

/** Names of candidates and images break after an underscore, where they must break at all. */
function breakNames() {
  for (const head of document.querySelectorAll("th, figcaption")) {
    for (const node of [...head.childNodes]) {
      const parts = node.nodeType === Node.TEXT_NODE ? node.data.split(/(?<=_)/) : [];
      if (parts.length > 1) node.replaceWith(...parts.flatMap((part) => [part, document.createElement("wbr")]).slice(0, -1));
    }
  }
}

breakNames();
for (const table of document.querySelectorAll(".scroll > table:not(.samples)")) {
  if (table.tHead && table.tBodies[0].rows.length > 1) makeSortable(table);
  makeFilterable(table);
}
makeEnlargeable(document.getElementById("large"));
addEventListener("hashchange", unfold);
unfold();
