// The page is whole without this: layers in network order, all shown. It adds the other order and folds a long list.
(() => {
  "use strict";
  const list = document.getElementById("layers");
  if (!list) return;
  const rows = Array.from(list.children);
  const shown = Number(list.dataset.shown);
  const group = document.querySelector(".sorting");
  const buttons = Array.from(group.querySelectorAll("button"));
  const status = document.getElementById("sorted");
  const network = (row) => Number(row.dataset.network);
  const orders = {
    network: (a, b) => network(a) - network(b),
    waste: (a, b) => Number(b.dataset.waste) - Number(a.dataset.waste) || network(a) - network(b),
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      list.append(...rows.sort(orders[button.dataset.sort]));
      status.textContent = "Order: " + button.textContent;
    });
  }
  group.hidden = rows.length < 2 || "never" in group.dataset;
  const all = document.getElementById("all-layers");
  if (rows.length > shown) {
    const few = () => {
      const capped = list.classList.toggle("capped");
      all.setAttribute("aria-expanded", String(!capped));
      all.textContent = capped ? "Show all " + rows.length + " layers" : "Show the first " + shown;
    };
    all.addEventListener("click", few);
    all.hidden = false;
    few();
  }
})();
