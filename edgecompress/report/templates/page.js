// Sorting by a column's heading, and what a pointer sees at once. The page reads whole without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, heads, column));
  });
}

function sort(table, heads, column) {
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = row => {
    const cell = row.cells[column];
    const text = cell.dataset.value
      ?? (cell.querySelector("s, .badge, .label") || cell.firstChild || cell).textContent.trim();
    const number = text.replaceAll(",", "").replace("−", "-").replace(/[%×]$/, "");
    return number === "" || Number.isNaN(Number(number)) ? text : Number(number);
  };
  const missing = one => one === "–" || one === "" || one === "n/a";
  const compare = (a, b) => {
    if (missing(a) || missing(b)) return missing(a) - missing(b);  // last, in either order
    const less = typeof a === "number" && typeof b === "number" ? a - b : `${a}`.localeCompare(`${b}`);
    return down ? -less : less;
  };
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter(row => !row.classList.contains("group"));
    rows.sort((a, b) => compare(value(a), value(b)));
    body.append(...rows);
  }
}

const tip = document.createElement("div");
tip.className = "tip";
tip.setAttribute("aria-hidden", "true");
const tipped = event => {
  const mark = event.target.closest ? event.target.closest(".mark, [data-tip]") : null;
  if (!mark) { tip.remove(); return; }
  const title = mark.querySelector(":scope > title");
  if (title) { mark.dataset.tip = title.textContent; title.remove(); mark.setAttribute("aria-label", mark.dataset.tip); }
  tip.textContent = mark.dataset.tip;
  document.body.append(tip);
  const box = mark.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = box.left + box.width / 2 - own.width / 2;
  tip.style.left = `${Math.max(8, Math.min(left, innerWidth - own.width - 8))}px`;
  tip.style.top = `${box.top - own.height - 6 < 4 ? box.bottom + 6 : box.top - own.height - 6}px`;
};
document.addEventListener("pointerover", tipped);
document.addEventListener("focusin", tipped);
addEventListener("scroll", () => tip.remove(), {passive: true});
