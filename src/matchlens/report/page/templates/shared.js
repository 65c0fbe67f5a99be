"use strict";
// What the scripts of the report, the pair view and the live page share; a page may hold it twice.
window.matchlensShared ??= (() => {
  const all = (query, where = document) => [...where.querySelectorAll(query)];

  // Elements are made of names and texts alone: nothing that a person typed is ever read as HTML.
  function el(name, attributes = {}, ...inside) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value === true) node.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...inside.filter((child) => child !== null));
    return node;
  }

  // Numbers as papers print them, and the colour classes of numbers with and without a sign.
  const printed = (value, sign = false, places = 3) => {
    const text = Math.abs(value).toFixed(places).replace(/^0\./, ".");
    return Number(text) === 0 ? text : (value < 0 ? "\u2212" : sign ? "+" : "") + text;
  };
  const signed = (value, most) => {
    const step = most > 0 ? Math.round(Math.min(Math.abs(value) / most, 1) * 8) : 0;
    return step ? (value < 0 ? "n" : "p") + step : "z";
  };
  const unsigned = (value, most) => `t${value <= 0 || most <= 0 ? 0 : Math.min(Math.max(Math.round((value / most) * 9), 1), 9)}`;
  const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

  function showTip(tip, text, box) {
    tip.textContent = text;
    tip.style.left = "0";
    tip.hidden = false;
    const own = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left + box.width / 2 - own.width / 2), innerWidth - own.width - 8);
    const above = box.top - own.height - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 4 ? above : Math.min(box.bottom + 8, innerHeight - own.height - 4)}px`;
  }

  // A group is one tab stop; arrow keys go from one visible element to the next, Home and End to the ends.
  function group(nodes, columns = 1, press = null) {
    nodes.forEach((node, place) => {
      node.tabIndex = place ? -1 : 0;
      node.addEventListener("keydown", (event) => {
        if (press && (event.key === "Enter" || event.key === " ")) {
          event.preventDefault();
          press(node);
          return;
        }
        let step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
        let to = place;
        if (event.key === "Home") [to, step] = [-1, 1];
        else if (event.key === "End") [to, step] = [nodes.length, -1];
        else if (!step) return;
        event.preventDefault();
        do to += step;
        while (nodes[to] && !nodes[to].getClientRects().length);
        if (!nodes[to]) return;
        node.tabIndex = -1;
        nodes[to].tabIndex = 0;
        nodes[to].focus();
      });
    });
  }

  function download(parts, type, name) {
    const link = el("a", { href: URL.createObjectURL(new Blob(parts, { type })), download: name });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // A button that changes between light and dark, and says which.
  function theme(button) {
    const root = document.documentElement;
    const prefers = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches);
    const name = () => (button.textContent = dark() ? "Light" : "Dark");
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      name();
    });
    prefers.addEventListener("change", name);
    name();
  }

  return { all, el, printed, signed, unsigned, counted, showTip, group, download, theme };
})();
