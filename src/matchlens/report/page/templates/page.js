"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const { all, el, showTip, group, download, theme } = window.matchlensShared;
  const data = JSON.parse(document.getElementById("data").textContent);
  const minus = "\u2212";

  // Tooltips: what an element's title says, when it is pointed at or focused.
  const tip = document.getElementById("tip");
  const texts = new WeakMap();
  let current = null;
  for (const mark of all("[data-mark], svg.chart :has(> title), td[title], th[title]")) {
    const title = mark.querySelector(":scope > title");
    const text = title ? title.textContent : mark.getAttribute("title");
    if (!text) continue;
    texts.set(mark, text);
    mark.dataset.tipped = "";
    if (title) {
      mark.setAttribute("aria-label", text);
      mark.setAttribute("role", "img");
      title.remove();
    } else {
      mark.removeAttribute("title");
      mark.setAttribute("aria-description", text);
    }
  }
  const tipped = (node) => (node instanceof Element ? node.closest("[data-tipped]") : null);
  function show(mark) {
    current = mark;
    showTip(tip, texts.get(mark), mark.getBoundingClientRect());
  }
  function hide() {
    current = null;
    tip.hidden = true;
  }
  document.addEventListener("pointerover", (event) => {
    const mark = tipped(event.target);
    if (mark) show(mark);
    else if (current && current !== document.activeElement) hide();
  });
  document.addEventListener("focusin", (event) => {
    const mark = tipped(event.target);
    if (mark && event.target === mark) show(mark);
    else hide();
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", () => {
    if (current && current === document.activeElement) show(current);
    else hide();
  }, { passive: true, capture: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });

  // One tab stop a chart; arrow keys go from mark to mark.
  for (const chart of all("svg.chart, [data-marks]")) group(all("[data-tipped]", chart), Number(chart.dataset.columns) || 1);

  // Panels become tabs.
  const opened = new Map();
  for (const box of all("[data-panels]")) {
    const panels = all(":scope > .panel", box);
    const list = el("div", { class: "tabs", role: "tablist", "aria-label": box.closest("section").querySelector("h2").textContent });
    const tabs = panels.map((panel) => {
      const tab = el("button", { type: "button", id: `tab-${panel.id}`, role: "tab", "aria-controls": panel.id }, panel.dataset.label);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      list.append(tab);
      return tab;
    });
    const choose = (chosen, focus) => {
      tabs.forEach((tab, place) => {
        tab.setAttribute("aria-selected", String(place === chosen));
        tab.tabIndex = place === chosen ? 0 : -1;
        panels[place].hidden = place !== chosen;
      });
      if (focus) tabs[chosen].focus();
    };
    tabs.forEach((tab, place) => {
      opened.set(panels[place], () => choose(place));
      tab.addEventListener("click", () => {
        choose(place);
        history.replaceState(null, "", `#${panels[place].id}`);
      });
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        const last = tabs.length - 1;
        if (step) choose((place + step + tabs.length) % tabs.length, true);
        else if (event.key === "Home") choose(0, true);
        else if (event.key === "End") choose(last, true);
        else return;
        event.preventDefault();
      });
    });
    box.prepend(list);
    choose(0);
  }

  // Tables sort by any column.
  const worth = (cell) => {
    const text = (cell.dataset.order || cell.textContent.trim()).replaceAll(minus, "-");
    if (["", "-", "\u2013", "n/a"].includes(text)) return null;
    // A number with its mark, a share, or an interval, which its lower end orders.
    const found = /^[[<+]*(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)[*?%\u2020]*(?:, .*\])?$/i.exec(text);
    return found ? Number(found[1].replaceAll(",", "")) : text;
  };
  for (const table of all("table[data-sort]")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = el("button", { type: "button" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [worth(row.cells[column]), row]);
        rows.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
          return up ? order : -order;
        });
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Tables to download, made from what the page holds. A text that a spreadsheet would run as a
  // formula begins with an apostrophe.
  const quoted = (value) => {
    if (value === null || value === undefined) return "";
    if (typeof value !== "string") return String(value);
    const safe = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  for (const button of all("[data-csv]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const table = data.tables[button.dataset.csv];
      const lines = [table.columns, ...table.rows].map((row) => row.map(quoted).join(","));
      download([lines.join("\r\n"), "\r\n"], "text/csv", `${button.dataset.csv}.csv`);
    });
  }

  // A chart as a file: its colours, which are the style sheet's, are written into it.
  const drawnBy = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "fill-opacity",
    "font-family", "font-size", "font-weight", "text-anchor", "display", "paint-order"];
  for (const chart of all("figure svg.chart")) {
    const save = () => {
      const theme = root.dataset.theme;
      root.dataset.theme = "light";
      const copy = chart.cloneNode(true);
      const [from, to] = [chart, copy].map((svg) => [svg, ...all("*", svg)]);
      from.forEach((node, place) => {
        const style = getComputedStyle(node);
        for (const name of drawnBy) to[place].style.setProperty(name, style.getPropertyValue(name));
        for (const name of ["class", "tabindex", "role", "data-tipped"]) to[place].removeAttribute(name);
      });
      if (theme) root.dataset.theme = theme;
      else delete root.dataset.theme;
      const panel = chart.closest("[id]");
      const charts = all("svg.chart", panel);
      const number = charts.length > 1 ? `-${charts.indexOf(chart) + 1}` : "";
      download([new XMLSerializer().serializeToString(copy)], "image/svg+xml", `${panel.id}${number}.svg`);
    };
    const button = el("button", { type: "button", class: "quiet svg", "aria-label": "Download this chart as SVG", onclick: save }, "SVG");
    chart.closest("figure").append(el("div", { class: "chart-tools" }, button));
  }

  // All or none of the curves; the bands of more than four would hide each other.
  for (const box of all(".chooser")) {
    const count = () => box.parentElement.classList.toggle("many", all("input:checked", box).length > 4);
    box.addEventListener("change", count);
    count();
    const bulk = [["All", true], ["None", false]].map(([words, on]) => el("button", { type: "button", class: "quiet", onclick: () => {
      all("input", box).forEach((input) => (input.checked = on));
      count();
    } }, words));
    box.append(el("div", { class: "bulk" }, ...bulk));
  }

  // An address leads to what it names, wherever that is folded away.
  function follow() {
    let name = "";
    try {
      name = decodeURIComponent(location.hash.slice(1));
    } catch {
      return;
    }
    const target = name && document.getElementById(name);
    if (!target) return;
    for (let node = target; node; node = node.parentElement) {
      if (opened.has(node)) opened.get(node)();
      if (node instanceof HTMLDetailsElement) node.open = true;
    }
    target.scrollIntoView();
  }
  addEventListener("hashchange", follow);
  if (location.hash) follow();

  // Where the reader is.
  const links = all(".toc a");
  const spots = links.map((link) => document.getElementById(link.hash.slice(1)));
  let waiting = false;
  function mark() {
    waiting = false;
    let here = 0;
    spots.forEach((spot, place) => {
      if (spot.getBoundingClientRect().top < innerHeight * 0.3) here = place;
    });
    if (innerHeight + scrollY >= root.scrollHeight - 4) here = links.length - 1;
    links.forEach((link, place) => {
      if (place !== here) link.removeAttribute("aria-current");
      else if (!link.hasAttribute("aria-current")) {
        link.setAttribute("aria-current", "true");
        const list = link.closest("ul");
        if (list.scrollWidth > list.clientWidth) list.scrollLeft = link.offsetLeft - list.offsetLeft - 40;
      }
    });
  }
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  }, { passive: true });
  mark();

  // Light and dark.
  const button = document.querySelector("[data-theme-button]");
  button.hidden = false;
  button.setAttribute("aria-label", "Change between light and dark");
  theme(button);

  // On paper everything is open, but for long tables.
  const folded = [];
  addEventListener("beforeprint", () => {
    for (const details of all("details:not([open]):not([data-long])")) {
      details.open = true;
      folded.push(details);
    }
  });
  addEventListener("afterprint", () => {
    while (folded.length) folded.pop().open = false;
  });
})();
