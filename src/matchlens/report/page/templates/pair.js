"use strict";
// The pair view. It is started once for each view, however often the script stands on a page.
for (const view of document.querySelectorAll("[data-matchlens-view]:not([data-started])")) (() => {
  view.dataset.started = "";
  const shared = window.matchlensShared;
  const { unsigned, showTip } = shared;
  const all = (query, where = view) => shared.all(query, where);
  const one = (query, where = view) => where.querySelector(query);
  const stored = JSON.parse(one("[data-numbers]").textContent);
  const explains = stored.kind === "explain";
  const state = { head: "", unit: "", mode: one("[data-mode]")?.dataset.mode, card: null, word: null };
  const scenes = all(".scene");
  const cards = all(".card").map((node) => ({ node, number: Number(node.dataset.card), words: all(".w", node) }));
  let scene = scenes[0];
  const across = one(".heads tr") ? all(".g", one(".heads tr")).length : 0;

  const printed = (value) => shared.printed(value, true);
  const signed = (value, most) => {
    const name = shared.signed(value, most).replace("5", "4"); // on the fifth no text is easy to read
    return /^(n[6-8]|p[78])$/.test(name) ? `${name} deep` : name;
  };

  // Tooltips: an element's title, shown when it is pointed at or focused.
  const tip = one(".tip");
  const tips = new Map();
  const describe = (node, text) => {
    tips.set(node, text);
    node.setAttribute("aria-description", text);
  };
  for (const node of all("[title]")) {
    describe(node, node.title);
    node.removeAttribute("title");
  }
  let current = null;
  const show = (node) => {
    current = node;
    showTip(tip, tips.get(node), node.getClientRects()[0] || node.getBoundingClientRect());
  };
  const hide = () => {
    current = null;
    tip.hidden = true;
  };
  const tipped = (node) => {
    for (; node && node !== view; node = node.parentElement) if (tips.has(node)) return node;
    return null;
  };
  const hint = (event) => {
    const node = tipped(event.target);
    if (node) show(node);
    else hide();
    near(node && node.classList.contains("w") ? node : null);
  };
  view.addEventListener("pointerover", hint);
  view.addEventListener("focusin", hint);
  for (const name of ["pointerleave", "focusout"]) {
    view.addEventListener(name, () => {
      hide();
      near(null);
    });
  }
  // A live page puts another view in the place of this one.
  const gone = new AbortController();
  view.addEventListener("matchlens-gone", () => gone.abort());
  // A key that moves the focus may scroll the page, and the scroll event comes after the focus.
  const scrolled = () => (current?.contains(document.activeElement) ? show(current) : hide());
  addEventListener("scroll", scrolled, { passive: true, capture: true, signal: gone.signal });

  // What can be pressed, by mouse and keys.
  function pressable(nodes, press, columns) {
    for (const node of nodes) {
      node.setAttribute("role", "button");
      node.setAttribute("aria-pressed", "false");
      node.addEventListener("click", () => press(node));
      node.addEventListener("keydown", (event) => {
        if (event.key === "Escape") hide();
      });
    }
    shared.group(nodes, columns, press);
  }
  const pressed = (node, on) => node.setAttribute("aria-pressed", String(on));

  // A word is of a part of the input, and perhaps of a part that the user made within it.
  const within = (word, part) => word[0] === part || word[3] === part;

  // The links that are chosen: who reads whom.
  function links(card) {
    if (!explains || card.node.closest(".scene") !== scene) return [];
    const { words, links: kept } = stored.cards[card.number];
    const word = state.card === card ? state.word : null;
    if (!state.head && !state.unit && word === null) return [];
    if (state.card && state.card !== card && !state.head && !state.unit) return [];
    const [reader, read] = state.unit.split("->");
    return (kept[state.head] || []).filter(
      ([row, column]) =>
        (!state.unit || (within(words[row], reader) && within(words[column], read))) &&
        (word === null || row === word || column === word)
    );
  }
  function numbers(card, shown) {
    if (!explains) return unpacked(card);
    const { words } = stored.cards[card.number];
    const side = state.mode === "reads" ? 0 : 1;
    if (!state.head && !state.unit) return words.map((word) => word[2 - side]);
    const sums = words.map(() => 0);
    for (const link of shown) sums[link[side]] += link[2];
    return sums;
  }
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  function unpacked(card, key = state.head || stored.first, mode = state.mode) {
    const [most, text] = stored.cards[card.number][key][Number(mode)];
    return Array.from({ length: text.length / 2 }, (_, k) => {
      const root = (digits.indexOf(text[2 * k]) * 64 + digits.indexOf(text[2 * k + 1])) / 4095;
      return most * root * root;
    });
  }

  function draw() {
    const seen = cards.filter((card) => card.node.closest(".scene") === scene);
    for (const card of seen) {
      card.links = links(card);
      card.values = numbers(card, card.links);
    }
    const inside = (card) => card.values.filter((_, k) => card.words[k].closest(".part-query, .part-passage"));
    const most = (some) => Math.max(0, ...some.flatMap((card) => inside(card).map(Math.abs)));
    const pair = most(explains ? seen.slice(0, 2) : seen);
    for (const card of seen) {
      card.words.forEach((word, k) => {
        const value = card.values[k];
        const colour = explains ? signed(value, pair) : unsigned(value, most([card]));
        word.className = `w ${colour}`;
        describe(word, `${word.dataset.name}\n${meaning(card, k)}`);
        pressed(word, state.card === card && state.word === k);
      });
      lines(card);
    }
    if (explains) {
      const [inA, inB] = stored.maps[state.unit];
      const largest = Math.max(...inA.map((value, k) => Math.abs(value - inB[k])));
      all(".g").forEach((cell) => {
        const [a, b] = inBoth(cell.dataset.head);
        const name = signed(a - b, largest);
        const key = (state.unit ? `${state.unit}#` : "") + cell.dataset.head;
        const cut = key in stored.cut ? `\nmargin when cut ${printed(stored.cut[key])}` : "";
        cell.className = `g ${name}`;
        cell.textContent = /^(z|[np][12])$/.test(name) ? "" : a < b ? "\u2212" : "+";
        describe(cell, `head ${cell.dataset.head}${state.unit ? `, ${arrow(state.unit)}` : ""}\nA ${printed(a)}, B ${printed(b)}, A \u2212 B ${printed(a - b)}${cut}`);
      });
      one(".map .title").textContent = `Heads: contribution to the margin A \u2212 B${state.unit ? `, ${arrow(state.unit)}` : ""}`;
    } else if (one(".map")) shadeHeads(seen[0]);
    all("[data-head]").forEach((cell) => pressed(cell, cell.dataset.head === state.head));
    all(".map [data-view]").forEach((cell) => pressed(cell, cell.dataset.view === (state.head || stored.first)));
    all("[data-mode]").forEach((button) => pressed(button, button.dataset.mode === state.mode));
    const chosen = state.head && state.unit ? `${state.unit}#${state.head}` : state.unit;
    all("tr[data-unit]").forEach((row) => {
      if (row.dataset.unit === chosen || row.dataset.unit === state.unit) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    });
    one("[data-chosen]").textContent = readout(seen);
    one("[data-reset]").hidden = !state.head && !state.unit && state.word === null;
  }
  // The maps hold layer 0 first; the page shows it last.
  const inBoth = (name) => {
    const [layer, head] = name.split(".").map(Number);
    return stored.maps[state.unit].map((side) => side[layer * across + head]);
  };
  const arrow = (unit) => unit.replace("->", " \u2192 ");
  function shadeHeads(card) {
    const part = Number(state.mode) === stored.readers.indexOf("D") ? "query" : "passage";
    const shares = all(".g").map((cell) => {
      if (!(cell.dataset.head in stored.cards[card.number])) return NaN;
      const values = unpacked(card, cell.dataset.head);
      return values.reduce((sum, value, k) => sum + (card.words[k].closest(`.part-${part}`) ? value : 0), 0);
    });
    const most = Math.max(...shares.filter((share) => share >= 0));
    all(".g").forEach((cell, place) => {
      const known = shares[place] >= 0;
      const marked = cell.classList.contains("mark") ? " mark" : "";
      cell.className = `g ${known ? unsigned(shares[place], most) : "off"}${marked}`;
      const name = stored.names[cell.dataset.head] || `head ${cell.dataset.head}`;
      describe(cell, known ? `${name}\n${shared.printed(shares[place])} of what ${reader()} goes to the ${part}` : `${name}: not kept on this page`);
    });
  }
  const reader = () => one(`[data-mode="${state.mode}"]`).textContent;
  function meaning(card, k) {
    if (!explains) return `receives ${shared.printed(card.values[k], false, 4)} when ${reader()}`;
    const word = stored.cards[card.number].words[k];
    const lines = [`contributes ${printed(word[1])} as it is read, ${printed(word[2])} as it reads`];
    if (state.head || state.unit) lines.push(`${printed(card.values[k])} by the links drawn`);
    for (const [side, other, verb] of [[0, 1, "reads"], [1, 0, "is read by"]]) {
      const some = card.links.filter((link) => link[side] === k).slice(0, 4);
      if (some.length) lines.push(`${verb} ${some.map((link) => `${card.words[link[other]].textContent} ${printed(link[2])}`).join(", ")}`);
    }
    return lines.join("\n");
  }
  function readout(seen) {
    if (!explains) return stored.names[state.head || stored.first] || `head ${state.head}`;
    if (!state.head && !state.unit && state.word === null) return "Press a word, a direction or a head to see who reads whom.";
    const clauses = [];
    if (state.head) clauses.push(`head ${state.head}`);
    if (state.unit) clauses.push(`${arrow(state.unit)}: ${stored.words[state.unit]}`);
    if (state.word !== null) clauses.push(`the word \u201c${state.card.words[state.word].textContent}\u201d of ${"AB"[state.card.number] || state.card.number + 1}`);
    if (state.head) {
      const [a, b] = inBoth(state.head);
      clauses.push(`A ${printed(a)}, B ${printed(b)}, A \u2212 B ${printed(a - b)}`);
    }
    const key = [state.unit, state.head].filter(Boolean).join("#");
    if (key in stored.cut) clauses.push(`margin when cut ${printed(stored.cut[key])}`);
    const count = seen.reduce((sum, card) => sum + card.links.length, 0);
    return `${clauses.join("; ")}. ${shared.counted(count, "link")} drawn, the strongest that were kept.`;
  }

  // Links are drawn from the word that reads to the word that is read, where the head points.
  const drawn = document.createElement("template");
  drawn.innerHTML = "<svg></svg>";
  const svg = (name, attributes, parent) => {
    const node = document.createElementNS(drawn.content.firstChild.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    parent.append(node);
    return node;
  };
  function lines(card) {
    const text = one(".text", card.node);
    one("svg.links", text)?.remove();
    text.classList.toggle("linked", card.links.length > 0);
    const touched = new Set(card.links.flatMap((link) => [link[0], link[1]]));
    card.words.forEach((word, k) => word.classList.toggle("near", touched.has(k)));
    if (!card.links.length) return;
    const sheet = svg("svg", { class: "links", "aria-hidden": "true" }, text);
    const origin = text.getBoundingClientRect();
    const places = new Map([...touched].map((k) => {
      const box = card.words[k].getClientRects()[0];
      return [k, { x: box.left + box.width / 2 - origin.left, top: box.top - origin.top, bottom: box.bottom - origin.top }];
    }));
    const most = Math.max(...card.links.map((link) => Math.abs(link[2])));
    for (const [row, column, value] of [...card.links].reverse()) {
      const [from, to] = [places.get(row), places.get(column)];
      const wide = 0.8 + 3 * Math.abs(value / most);
      const minus = value < 0 ? " minus" : "";
      const level = Math.abs(from.top - to.top) < 6;
      const down = !level && to.top > from.top;
      const [y, z] = [down ? from.bottom : from.top, down ? to.top : level ? to.top : to.bottom];
      const bend = level ? -Math.min(34, 12 + Math.abs(to.x - from.x) * 0.14) : Math.max(14, Math.abs(z - y) * 0.5) * (down ? 1 : -1);
      const sideways = row === column ? 9 : 0;
      const end = level ? z + bend : z - bend;
      const head = (level || down ? -1 : 1) * (3 + wide);
      const shape = `M${from.x - sideways},${y}C${from.x - sideways},${y + bend} ${to.x + sideways},${end} ${to.x + sideways},${z + head}`;
      const link = svg("g", { "data-ends": `${row} ${column}` }, sheet);
      svg("path", { class: `link${minus}`, d: shape, "stroke-width": wide.toFixed(1), "stroke-opacity": (wide / 3.8 + 0.3).toFixed(2) }, link);
      const half = 2 + wide * 0.7;
      svg("path", { class: `tipend${minus}`, d: `M${to.x + sideways},${z}l${-half},${head}h${2 * half}z` }, link);
    }
  }
  function near(word) {
    const card = word && cards.find((card) => card.words.includes(word));
    const place = card ? String(card.words.indexOf(word)) : "";
    for (const link of all("svg.links g")) {
      const unrelated = card && card.node.contains(link) && !link.dataset.ends.split(" ").includes(place);
      link.classList.toggle("far", Boolean(unrelated) && card.words[Number(place)].classList.contains("near"));
    }
  }

  // What was pressed.
  const choose = (changes) => {
    Object.assign(state, changes);
    draw();
  };
  for (const card of cards) {
    if (!explains) {
      pressable(card.words, () => {});
      card.words.forEach((word) => word.removeAttribute("aria-pressed"));
      continue;
    }
    pressable(card.words, (word) => {
      const place = card.words.indexOf(word);
      const again = state.card === card && state.word === place;
      choose({ card: again ? null : card, word: again ? null : place });
    });
  }
  const heads = all(".g");
  pressable(heads, (cell) => {
    if (!explains && !(cell.dataset.head in stored.cards[0])) return;
    choose({ head: state.head === cell.dataset.head ? "" : cell.dataset.head });
  }, across);
  heads.forEach((cell) => cell.setAttribute("aria-label", `head ${cell.dataset.head}`));
  pressable(all(".map th[data-view]"), (cell) => choose({ head: cell.dataset.view }));
  for (const button of all("button[data-view]")) button.addEventListener("click", () => choose({ head: button.dataset.view }));
  for (const button of all("[data-mode]")) button.addEventListener("click", () => choose({ mode: button.dataset.mode }));
  one("[data-reset]").addEventListener("click", () => choose({ head: "", unit: "", card: null, word: null }));
  for (const table of explains ? all(".bars") : []) {
    const rows = all("tr[data-unit]", table);
    rows.forEach((row) => {
      row.dataset.live = "";
      row.addEventListener("click", () => one(".unit", row).dispatchEvent(new Event("press")));
    });
    const units = rows.map((row) => one(".unit", row));
    pressable(units, () => {});
    units.forEach((node) => {
      const [unit, head = ""] = node.closest("tr").dataset.unit.split("#");
      const press = () => {
        const same = state.unit === unit && (!head || state.head === head);
        choose(same ? { unit: "", ...(head && { head: "" }) } : { unit, ...(head && { head }) });
      };
      node.removeAttribute("aria-pressed");
      node.addEventListener("press", press);
      node.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") press();
      });
    });
  }
  const chooser = one("[data-choose=scene]");
  const open = (place) => {
    scene = scenes[place];
    scenes.forEach((other) => (other.hidden = other !== scene));
    if (chooser) chooser.value = String(place);
    const [tools, map] = [one("[data-tools]"), one(".map")];
    one(".scale", scene).before(tools);
    if (map) one(".right", scene).prepend(map);
    draw();
  };
  if (chooser) {
    chooser.addEventListener("change", () => open(Number(chooser.value)));
    // An address may lead to a passage of a query that is not shown.
    const follow = () => {
      const target = location.hash.length > 1 && cards.find((card) => `#${card.node.id}` === location.hash);
      if (!target) return;
      open(scenes.indexOf(target.node.closest(".scene")));
      target.node.scrollIntoView();
    };
    addEventListener("hashchange", follow);
    open(0);
    follow();
  } else open(0);
  all(".tools, .map").forEach((node) => (node.hidden = false));
  const size = new ResizeObserver(() => view.getClientRects().length && cards.forEach((card) => card.links && lines(card)));
  size.observe(view);
  gone.signal.addEventListener("abort", () => size.disconnect());
})();
