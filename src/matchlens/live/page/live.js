"use strict";
(() => {
  const $ = (name) => document.getElementById(name);
  const { el, printed, signed, unsigned, counted, group, download, theme } = window.matchlensShared;
  const about = JSON.parse($("about").textContent);
  const token = new URLSearchParams(location.search).get("token") || "";
  const me = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const EVERY = "*";
  const LONGEST_LINK = 60000;

  const listed = (words) => (words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`);
  const copy = (value) => JSON.parse(JSON.stringify(value));

  // What a person has set. Everything that undo brings back is in `state`, as plain values.
  const untouched = () => about.models.map(() => ({ cells: {}, heads: {} }));
  let state = {
    query: about.start.query,
    oldQuery: null,
    passages: about.start.passages.map((text, place) => ({ text, old: null, grade: about.start.grades[place] })),
    cuts: untouched(),
    how: about.hows[0],
  };
  let past = [];
  let future = [];
  let active = 0;
  let typing = null;
  let sorted = false; // whether the letters have been given by rank
  const shown = about.models.map(() => ({ now: null, old: null }));
  const numbers = { shares: null, screened: null, attention: null, fresh: false };
  let found = null; // the smallest swap, as a set of cuts
  let sets = [];

  const model = () => about.models[active];
  const cuts = () => state.cuts[active];
  const there = () => state.passages.map((one, place) => place).filter((place) => state.passages[place].text.trim());

  // --- cuts and their texts
  const spans = (layers) => {
    const order = [...layers].sort((a, b) => a - b);
    const whole = order.every((layer, place) => !place || layer === order[place - 1] + 1);
    return order.length > 1 && whole ? `${order[0]}:${order.at(-1) + 1}` : order.join(",");
  };
  function texts(of = active) {
    const { layers } = about.models[of];
    const how = state.how === "zero" ? "" : `~${state.how}`;
    const groups = new Map();
    const put = (key, name) => groups.set(key, [...(groups.get(key) || []), name]);
    for (const { name } of about.models[of].directions) {
      const some = state.cuts[of].cells[name] || [];
      if (some.length) put(some.length === layers ? "" : `@${spans(some)}`, name);
      const heads = state.cuts[of].heads[name] || [];
      if (heads.length) put(`#${heads.join(",")}`, name);
    }
    const all = state.cuts[of].heads[EVERY] || [];
    if (all.length) put(`#${all.join(",")}`, everything(of));
    return [...groups].map(([where, names]) => names.join("+") + where + how);
  }
  const everything = (of) => {
    const parts = [...new Set(about.models[of].directions.filter((one) => !one.own).map((one) => one.name.split("->")[0]))];
    return `${parts.length > 1 ? `{${parts.join(",")}}` : parts[0]}->All`;
  };
  const byLayer = (a, b) => a - b;
  const byHead = (a, b) => a.split(".")[0] - b.split(".")[0] || a.split(".")[1] - b.split(".")[1];
  function put(where, name, some, on, order) {
    const kept = new Set(where[name] || []);
    for (const one of some) on ? kept.add(one) : kept.delete(one);
    if (kept.size) where[name] = [...kept].sort(order);
    else delete where[name];
  }
  const has = (where, part) => Object.entries(part).every(([name, some]) => some.every((one) => (where[name] || []).includes(one)));

  // --- asking the server
  async function ask(path, body) {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Matchlens-Token": token },
      body: JSON.stringify(body),
    });
    const json = await answer.json().catch(() => ({ error: `the server answers ${answer.status}` }));
    if (json.error) throw new Error(json.error);
    return json;
  }
  const working = new Map();
  const waiting = {};
  function status() {
    const running = Object.values(waiting).filter(Boolean);
    $("status").hidden = !running.length;
    if (running.length) $("status").textContent = running[0];
  }
  const DOING = { score: "Scoring", words: "Words and heads", why: "Explaining", page: "Making the page" };
  // A newer request of a kind takes the place of the older one, here and at the server.
  async function run(kind, body, told = () => {}) {
    const name = kind === "score" ? `score ${body.model} ${body.slot}` : kind;
    working.get(name)?.abort();
    const gone = new AbortController();
    working.set(name, gone);
    const say = (words) => {
      waiting[name] = words;
      status();
    };
    const late = setTimeout(() => say(`${DOING[kind]} \u2026`), 250);
    try {
      const answer = await fetch("/api/run", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Matchlens-Token": token },
        body: JSON.stringify({ kind, client: me, ...body }),
        signal: gone.signal,
      });
      if (!answer.headers.get("Content-Type").startsWith("application/x-ndjson")) {
        const json = await answer.json().catch(() => ({}));
        throw new Error(json.error || `the server answers ${answer.status}`);
      }
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return null;
        text += value;
        const lines = text.split("\n");
        text = lines.pop();
        for (const line of lines) {
          const one = JSON.parse(line);
          if ("queue" in one && one.queue > 0) say(`${DOING[kind]}: waiting, ${counted(one.queue, "run")} ahead`);
          else if ("queue" in one) waiting[name] && say(`${DOING[kind]} \u2026`);
          else if (one.progress) say(`${DOING[kind]}: step ${one.progress[0]} of ${one.progress[1]}`);
          else if (one.error) throw new Error(one.error);
          else if (one.cancelled) return null;
          else if ("result" in one) return one.result;
          else told(one);
        }
      }
    } catch (error) {
      if (error.name === "AbortError") return null;
      if (error instanceof TypeError) throw new Error("the server does not answer: is matchlens serve still running?");
      throw error;
    } finally {
      clearTimeout(late);
      if (working.get(name) === gone) {
        working.delete(name);
        delete waiting[name];
        status();
      }
    }
  }
  const stop = (...names) => names.forEach((name) => working.get(name)?.abort());
  // Scores that arrive clear an error of scoring only, not that of a cut typed meanwhile.
  let wrongOf = "";
  function wrong(error, of = "input") {
    if (!error && of !== wrongOf) return;
    wrongOf = error ? of : "";
    $("wrong").textContent = error ? error.message : "";
    $("wrong").hidden = !error;
  }
  const experiment = (of, old = false) => ({
    model: of,
    query: old && state.oldQuery !== null ? state.oldQuery : state.query,
    passages: there().map((place) => (old && state.passages[place].old !== null ? state.passages[place].old : state.passages[place].text)),
    cuts: texts(of),
  });

  // --- history
  function commit(change, words = "") {
    const before = JSON.stringify(state);
    change(state);
    if (JSON.stringify(state) === before) return;
    past.push(before);
    past = past.slice(-200);
    future = [];
    refresh(JSON.parse(before), words);
  }
  function back(from, to) {
    if (!from.length) return;
    const before = state;
    to.push(JSON.stringify(state));
    state = JSON.parse(from.pop());
    draw();
    refresh(before);
  }

  // --- scores
  let turn = 0; // an answer counts only if nothing newer was asked since it took its ticket
  async function refresh(before, words = "") {
    const ticket = ++turn;
    stop("words", "why");
    numbers.fresh = false;
    controls();
    $("view").classList.add("stale");
    if (found && before && JSON.stringify([before.query, before.passages]) !== JSON.stringify([state.query, state.passages])) {
      found = null;
      chips();
    }
    stale(true);
    if (!state.query.trim() || !there().length) {
      announce("Type a query and two or more passages.");
      return;
    }
    const previous = shown.map((one) => one.now);
    const edited = state.oldQuery !== null || state.passages.some((one) => one.old !== null);
    const places = there();
    const asked = [];
    about.models.forEach((_, of) => {
      asked.push(run("score", { ...experiment(of), slot: 0 }).then((result) => result && { of, now: spread(result, places) }));
      if (edited) asked.push(run("score", { ...experiment(of, true), slot: 1 }).then((result) => result && { of, old: spread(result, places) }));
    });
    try {
      const answers = await Promise.all(asked);
      if (ticket !== turn || answers.includes(null)) return;
      shown.forEach((one) => (one.old = null));
      for (const { of, ...one } of answers) Object.assign(shown[of], one);
      wrong(null, "scores");
    } catch (error) {
      if (ticket === turn) {
        wrong(error, "scores");
        announce("These cannot be scored: the reason stands below the cuts.");
      }
      return;
    }
    stale(false);
    const fresh = !sorted;
    if (fresh) {
      letters();
      sorted = true;
    }
    ranking();
    if (fresh) announce(`${counted(places.length, "passage")}, lettered by rank without cuts. Press a cell to cut who reads whom; the ranking follows.`);
    else if (words) announce(words);
    else if (before) describe(before, previous[active]);
    follow(ticket);
  }
  // Answers are for the passages that have text; the page keeps a place for each.
  const spread = (result, places) => {
    const full = { words: result.words };
    for (const name of ["scores", "ranks", "plain", "plain_ranks", "tokens", "truncated"]) {
      full[name] = state.passages.map(() => null);
      places.forEach((place, at) => (full[name][place] = result[name][at]));
    }
    return full;
  };
  const stale = (on) => $("rows").classList.toggle("stale", on);
  // The letters follow the ranking of the untouched model when texts are new.
  function letters() {
    const now = shown[active].now;
    const order = state.passages.map((_, place) => place).sort((a, b) => (now.plain_ranks[a]?.[0] ?? 99) - (now.plain_ranks[b]?.[0] ?? 99));
    state.passages = order.map((place) => state.passages[place]);
    for (const one of shown) {
      for (const some of [one.now, one.old].filter(Boolean)) {
        for (const name of Object.keys(some)) if (name !== "words") some[name] = order.map((place) => some[name][place]);
      }
    }
    draw();
  }

  function announce(text) {
    $("said").textContent = text;
  }
  const reading = (name, gone) => {
    const words = name === EVERY ? "nothing reads anything" : (model().directions.find((one) => one.name === name) || { words: name }).words;
    if (name === EVERY) return gone ? words : "everything reads again";
    return gone ? words.replace(" reads ", " no longer reads ") : `${words} again`;
  };
  const layerWords = (some) => {
    if (some.length === model().layers) return "in all layers";
    const order = [...some].sort(byLayer);
    const whole = order.length > 2 && order.every((layer, place) => !place || layer === order[place - 1] + 1);
    const text = whole ? `${order[0]} to ${order.at(-1)}` : order.length > 6 ? `${order.slice(0, 5).join(", ")} and ${order.length - 5} more` : listed(order.map(String));
    return `in ${order.length === 1 ? "layer" : "layers"} ${text}`;
  };
  function changes(before) {
    const sentences = [];
    for (const [gone, was, now] of [
      [true, before.cuts[active], cuts()],
      [false, cuts(), before.cuts[active]],
    ]) {
      const some = [];
      for (const [name, layers] of Object.entries(now.cells)) {
        const fresh = layers.filter((layer) => !(was.cells[name] || []).includes(layer));
        if (fresh.length) some.push(`${reading(name, gone)} ${layerWords(fresh)}`);
      }
      for (const [name, heads] of Object.entries(now.heads)) {
        const fresh = heads.filter((head) => !(was.heads[name] || []).includes(head));
        if (fresh.length) some.push(`${reading(name, gone)} in ${fresh.length === 1 ? "head" : "heads"} ${fresh.length > 6 ? `${fresh.slice(0, 5).join(", ")} and ${fresh.length - 5} more` : listed(fresh)}`);
      }
      const text = some.length > 3 ? `${some.slice(0, 2).join("; ")}; and ${some.length - 2} other directions` : some.join("; ");
      if (text) sentences.push(`${text[0].toUpperCase()}${text.slice(1)}.`);
    }
    if (before.how !== state.how) sentences.push(`Cuts are now made by ${state.how}.`);
    if (before.query !== state.query) sentences.push("The query was edited.");
    if (before.passages.length === state.passages.length) {
      const texts = state.passages.map((_, place) => place).filter((place) => before.passages[place].text !== state.passages[place].text);
      if (texts.length) sentences.push(`${texts.length === 1 ? "Passage" : "Passages"} ${listed(texts.map((place) => LETTERS[place]))} ${texts.length === 1 ? "was" : "were"} changed.`);
    }
    return sentences.join(" ");
  }
  function describe(before, was) {
    const now = shown[active].now;
    const head = changes(before);
    if (!was || was.scores.length !== now.scores.length) {
      announce(head || "Scored.");
      return;
    }
    const moves = now.ranks
      .map((rank, place) => ({ place, from: was.ranks[place]?.[0], to: rank?.[0], by: now.scores[place] - was.scores[place] }))
      .filter((one) => one.from && one.to);
    const moved = moves.filter((one) => one.from !== one.to).sort((a, b) => Math.abs(b.to - b.from) - Math.abs(a.to - a.from) || a.place - b.place);
    const name = (one) => `${moves.length > 1 ? "passage " : ""}${LETTERS[one.place]}`;
    let tail;
    if (moved.length) {
      const some = moved.slice(0, 3).map((one, k) => `${k ? LETTERS[one.place] : name(one)} ${one.to > one.from ? "falls" : "rises"} from ${one.from} to ${one.to}`);
      tail = `${listed(some)}${moved.length > 3 ? `; ${moved.length - 3} more ${moved.length === 4 ? "changes" : "change"} rank` : ""}.`;
      tail = tail[0].toUpperCase() + tail.slice(1);
    } else {
      const most = moves.reduce((a, b) => (Math.abs(b.by) > Math.abs(a.by) ? b : a), moves[0]);
      tail = !most || Math.abs(most.by) < 5e-4 ? "No score changes." : `No rank changes; ${name(most)} moves most, by ${printed(most.by, true)}.`;
    }
    announce(`${head} ${tail}`.trim());
  }

  // --- the ranking
  let rows = [];
  function draw() {
    $("query").value = state.query;
    rows = state.passages.map((_, place) => row(place));
    $("rows").replaceChildren(...rows.map((one) => one.node));
    grow();
    controls();
    ranking();
  }
  function row(place) {
    const letter = LETTERS[place];
    const text = el("textarea", { rows: 1, spellcheck: "false", dir: "auto", "aria-label": `Passage ${letter}`, placeholder: "Type or paste a passage" });
    text.value = state.passages[place].text;
    text.addEventListener("input", () => edit(() => write(place, text.value), text));
    text.addEventListener("blur", () => (typing = null));
    text.addEventListener("paste", (event) => several(event, place));
    const parts = {
      rank: el("b"), moved: el("small"), grade: el("small", { class: "soft" }), change: el("span", { class: "change" }), value: el("span", { class: "value" }),
      fill: el("i", { class: "fill" }), tick: el("i", { class: "tick" }), zero: el("i", { class: "zero" }), before: el("i", { class: "before" }),
      diff: el("p", { class: "diff", hidden: true }), note: el("p", { class: "note", hidden: true }),
    };
    const track = el("span", { class: "track", "aria-hidden": "true" }, parts.fill, parts.zero, parts.tick, parts.before);
    const others = about.models.length > 1 ? about.models.map(() => null) : [];
    const exchange = (list, to) => ([list[to], list[place]] = [list[place], list[to]]);
    const swap = (to) => {
      for (const some of shown.flatMap((one) => [one.now, one.old]).filter(Boolean)) for (const name of Object.keys(some)) if (name !== "words") exchange(some[name], to);
      commit((s) => exchange(s.passages, to), `What was ${LETTERS[place]} is now ${LETTERS[to]}, and the other way round.`);
    };
    const acts = el("span", { class: "rowacts" });
    for (const to of [0, 1]) {
      if (place !== to && state.passages.length > 2 && !(place < 2)) {
        acts.append(el("button", { type: "button", title: `Compare it as ${LETTERS[to]}`, onclick: () => { swap(to); draw(); } }, el("span", { class: "wide" }, "as "), LETTERS[to]));
      }
    }
    if (state.passages.length > 1) acts.append(el("button", { type: "button", "aria-label": `Remove passage ${letter}`, title: "Remove", onclick: () => { commit((s) => s.passages.splice(place, 1)); draw(); } }, "\u00d7"));
    const meter = el("div", { class: "meter" }, el("span", { class: "badge" }, letter), track, parts.value, parts.change);
    const node = el("div", { class: `row${place < 2 ? " pair" : ""}`, role: "listitem" }, el("div", { class: "place" }, parts.rank, parts.moved, parts.grade), meter, text, acts, parts.diff, parts.note);
    return { node, text, ...parts, others };
  }
  function ranking() {
    const { now, old } = shown[active];
    if (!now || now.scores.length !== rows.length) return;
    const every = [now, old].filter(Boolean).flatMap((one) => [...one.scores, ...one.plain]).filter((one) => one !== null);
    // The longest bar is the best score; where the shortest begins says nothing, so it has some length.
    const [least, high] = [Math.min(...every), Math.max(...every)];
    const low = least - Math.max(0.06 * (high - least), 0.1);
    const at = (value, wide = 0) => `calc((100% - ${wide}px) * ${(value - low) / (high - low)})`; // a line is whole at both ends
    const cut = texts().length > 0;
    const before = new Map(rows.map((one) => [one.node, one.node.getBoundingClientRect().top]));
    rows.forEach((one, place) => {
      const text = state.passages[place];
      if (now.scores[place] === null) {
        one.node.style.order = 99;
        one.rank.textContent = "\u2013";
        return;
      }
      const [rank, shared] = now.ranks[place];
      const from = now.plain_ranks[place][0];
      one.node.style.order = rank * 100 + place;
      one.rank.textContent = shared > 1 ? `${rank}=` : rank;
      one.moved.textContent = from === rank ? "" : `${rank > from ? "\u25bc" : "\u25b2"} from ${from}`;
      one.moved.className = rank > from ? "down" : "up";
      one.node.classList.toggle("moved", from !== rank);
      const score = now.scores[place];
      one.value.textContent = printed(score);
      const base = old ? old.scores[place] : now.plain[place];
      const change = score - base;
      one.change.textContent = (cut || old) && Math.abs(change) >= 5e-4 ? printed(change, true) : "";
      one.fill.style.width = at(score);
      one.zero.hidden = low > 0 || high < 0;
      one.zero.style.left = at(0);
      one.tick.style.left = at(now.plain[place], 2.5);
      one.before.hidden = !old;
      if (old) one.before.style.left = at(old.scores[place], 2);
      one.node.setAttribute("aria-label", `Passage ${LETTERS[place]}, rank ${rank}, score ${printed(score)}${from === rank ? "" : `, rank ${from} without cuts`}`);
      const notes = [];
      one.grade.textContent = Number.isInteger(text.grade) && text.old === null ? `grade ${text.grade}` : "";
      if (now.truncated[place]) notes.push(`cut to ${now.tokens[place]} tokens, the model's limit`);
      shown.forEach((other, of) => {
        if (of === active || !other.now) return;
        notes.push(`${about.models[of].name}: rank ${other.now.ranks[place][0]}, score ${printed(other.now.scores[place])}`);
      });
      one.note.textContent = notes.join(" \u00b7 ");
      one.note.hidden = !notes.length;
      one.diff.hidden = text.old === null;
      if (text.old !== null) difference(one.diff, place, old);
    });
    $("legend").textContent = `Bar: score now. Line: score without cuts.${old ? " Dots: before the edit." : ""}`;
    const [a, b] = there();
    const order = b === undefined ? "" : now.scores[a] >= now.scores[b] ? "above" : "below";
    $("why").textContent = order ? `Why is ${LETTERS[a]} ${now.plain[a] >= now.plain[b] ? "above" : "below"} ${LETTERS[b]}?` : "Why is A above B?";
    $("why").disabled = $("swap").disabled = !order;
    const edited = state.passages.findIndex((one) => one.old !== null);
    $("edited").hidden = edited < 0;
    if (edited >= 0) $("edited").textContent = `Old ${LETTERS[edited]} against new`;
    slide(before);
  }
  function slide(before) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    for (const [node, top] of before) {
      const by = top - node.getBoundingClientRect().top;
      if (by && node.isConnected) node.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], { duration: 280, easing: "ease-out" });
    }
  }
  // Which words are other ones: what two texts share at both ends is left out.
  function difference(node, place, old) {
    const [was, now] = [state.passages[place].old, state.passages[place].text].map((text) => text.split(/(?<=\s)/));
    let start = 0;
    while (start < Math.min(was.length, now.length) && was[start] === now[start]) start++;
    let end = 0;
    while (end < Math.min(was.length, now.length) - start && was.at(-1 - end) === now.at(-1 - end)) end++;
    const piece = (words) => words.slice(start, words.length - end).join("").trim().slice(0, 160) || "nothing";
    const score = old ? `: score ${printed(old.scores[place])} \u2192 ${printed(shown[active].now.scores[place])}, rank ${old.ranks[place][0]} \u2192 ${shown[active].now.ranks[place][0]}` : "";
    node.replaceChildren(
      el("del", {}, piece(was)), " \u2192 ", el("ins", {}, piece(now)), score,
      el("button", { type: "button", onclick: () => { commit((s) => Object.assign(s.passages[place], { text: s.passages[place].old, old: null })); draw(); } }, "back to the old text"),
      el("button", { type: "button", onclick: () => { commit((s) => Object.assign(s.passages[place], { old: null, grade: null })); } }, "keep"),
    );
  }

  // --- typing
  const write = (place, text) => {
    const one = state.passages[place];
    if (one.old === null && one.text.trim()) one.old = one.text;
    one.text = text;
    if (one.old === one.text) one.old = null;
  };
  let later = 0;
  function edit(change, node) {
    if (typing !== node) {
      past.push(JSON.stringify(state));
      future = [];
      typing = node;
    }
    const before = copy(state);
    change();
    grow();
    controls();
    clearTimeout(later);
    later = setTimeout(() => refresh(before), 350);
  }
  function several(event, place) {
    const lines = event.clipboardData.getData("text").split(/\r?\n+/).map((one) => one.trim()).filter(Boolean);
    if (lines.length < 2 || state.passages[place].text.trim()) return;
    event.preventDefault();
    commit((s) => s.passages.splice(place, 1, ...lines.slice(0, about.most - s.passages.length + 1).map((text) => ({ text, old: null }))));
    draw();
  }
  const fits = CSS.supports("field-sizing", "content");
  function grow() {
    if (fits) return;
    for (const node of document.querySelectorAll("textarea")) {
      node.style.height = "0";
      node.style.height = `${node.scrollHeight + 2}px`;
    }
  }

  // --- the matrix and the heads
  let cells = new Map();
  let heads = new Map();
  function build() {
    const { layers, heads: across, directions, reads } = model();
    const width = (most, count) => `${Math.max(0.42, Math.min(1.5, most / count)).toFixed(2)}rem`;
    $("matrix").style.setProperty("--w", width(16.2, layers));
    $("matrix").style.setProperty("--w-small", width(12.6, layers));
    $("grid").style.setProperty("--w", width(22, across));
    $("grid").style.setProperty("--w-small", width(17, across));
    cells = new Map();
    const bodies = [];
    const labels = [];
    const names = [];
    const head = el("tr", {}, el("th"), el("th"));
    for (let layer = 0; layer < layers; layer++) {
      const name = el("th", { scope: "col", role: "button", "aria-label": `Layer ${layer}: all directions`, title: `Layer ${layer}: all directions` }, layers > 16 && layer % 2 ? "" : String(layer));
      name.addEventListener("click", () => paint(directions.filter((one) => !one.own).map((one) => [one.name, layer])));
      names.push(name);
      head.append(name);
    }
    let body = null;
    let before = "";
    for (const { name, words, impossible } of directions) {
      const [reader, read] = name.split("->");
      const tr = el("tr");
      if (reader !== before) {
        body = el("tbody");
        bodies.push(body);
        tr.append(el("th", { class: "who", scope: "rowgroup", rowspan: directions.filter((one) => one.name.startsWith(`${reader}->`)).length }, `${model().parts[reader] || reader} reads`));
        before = reader;
      }
      const label = el("th", { scope: "row", role: "button", title: impossible || `${name}: ${words}, all layers` }, read === reader ? "itself" : (model().parts[read] || "everything").replace(/^the /, ""));
      const all = () => paint(Array.from({ length: layers }, (_, layer) => [name, layer]));
      label.addEventListener("click", all);
      labels.push(label);
      tr.append(label);
      for (let layer = 0; layer < layers; layer++) {
        const idle = layer === layers - 1 && !reads.includes(reader);
        const cell = el("span", { class: `cell${idle ? " idle" : ""}`, role: "button", tabindex: -1, "aria-pressed": "false", "aria-disabled": impossible ? "true" : null });
        Object.assign(cell, { key: [name, layer], about: `${name.replace("->", " \u2192 ")}, layer ${layer}: ${impossible || words}${idle ? " (the score does not read this row of the last layer)" : ""}` });
        cell.setAttribute("aria-label", cell.about);
        cells.set(`${name} ${layer}`, cell);
        tr.append(el("td", {}, cell));
      }
      body.append(tr);
    }
    $("matrix").replaceChildren($("matrix").caption, el("thead", {}, head), ...bodies);
    group(labels, 1, (name) => name.click());
    group(names, 1, (name) => name.click());
    pressable($("matrix"), [...cells.values()], layers, (some, on) => paint(some.map((cell) => cell.key), on));

    heads = new Map();
    const trs = [];
    const sides = [];
    for (let layer = layers - 1; layer >= 0; layer--) {
      const name = el("th", { scope: "row", role: "button", "aria-label": `All heads of layer ${layer}`, title: `All heads of layer ${layer}` }, String(layer));
      sides.push(name);
      name.addEventListener("click", () => brush(Array.from({ length: across }, (_, head) => `${layer}.${head}`)));
      const tr = el("tr", {}, name);
      for (let head = 0; head < across; head++) {
        const cell = el("span", { class: "cell", role: "button", tabindex: -1, "aria-pressed": "false" });
        cell.key = `${layer}.${head}`;
        heads.set(cell.key, cell);
        tr.append(el("td", {}, cell));
      }
      trs.push(tr);
    }
    const foot = el("tr", {}, el("th"), ...Array.from({ length: across }, (_, head) => el("th", { scope: "col" }, across > 16 && head % 2 ? "" : String(head))));
    $("grid").replaceChildren($("grid").caption, el("tbody", {}, ...trs), el("tfoot", {}, foot));
    group(sides, 1, (name) => name.click());
    pressable($("grid"), [...heads.values()], across, (some, on) => brush(some.map((cell) => cell.key), on));
    $("direction").replaceChildren(
      ...directions.filter((one) => !one.impossible).map(({ name, words }) => el("option", { value: name }, `${name.replace("->", " \u2192 ")}: ${words}`)),
      el("option", { value: EVERY }, "anything, in every direction"),
    );
    $("direction").value = directions.some((one) => one.name === "Q->D" && !one.impossible) ? "Q->D" : $("direction").options[0].value;
  }
  // A click or a drag sets every cell that it meets to what the first one becomes; one tab stop, arrows inside.
  function pressable(table, list, columns, press) {
    let drag = null;
    list[0].tabIndex = 0;
    const can = (cell) => cell && cell.getAttribute("aria-disabled") !== "true";
    const over = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest(".cell");
    const meet = (cell) => {
      if (!can(cell) || !list.includes(cell) || drag.some.has(cell)) return;
      drag.some.add(cell);
      cell.setAttribute("aria-pressed", String(drag.on));
    };
    table.onpointerdown = (event) => {
      const cell = event.target.closest(".cell");
      if (event.button || !can(cell)) return;
      drag = { on: cell.getAttribute("aria-pressed") !== "true", some: new Set() };
      meet(cell);
      table.setPointerCapture(event.pointerId);
    };
    table.onpointermove = (event) => drag && meet(over(event));
    table.onpointerup = table.onpointercancel = () => {
      if (!drag) return;
      const { some, on } = drag;
      drag = null;
      press([...some], on);
    };
    list.forEach((cell, place) => {
      cell.addEventListener("click", (event) => {
        if (event.detail === 0 && can(cell)) press([cell], cell.getAttribute("aria-pressed") !== "true"); // by a script or a screen reader
      });
      cell.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
        const to = event.key === "Home" ? place - (place % columns) : event.key === "End" ? place - (place % columns) + columns - 1 : place + by;
        if ((event.key === "Enter" || event.key === " ") && can(cell)) press([cell], cell.getAttribute("aria-pressed") !== "true");
        else if (list[to]) {
          cell.tabIndex = -1;
          list[to].tabIndex = 0;
          list[to].focus();
        } else return;
        event.preventDefault();
      });
    });
  }
  function paint(some, on) {
    const free = some.filter(([name]) => !model().directions.find((one) => one.name === name).impossible);
    const cut = on ?? !free.every(([name, layer]) => (cuts().cells[name] || []).includes(layer));
    commit((s) => free.forEach(([name, layer]) => put(s.cuts[active].cells, name, [layer], cut, byLayer)));
  }
  function brush(some, on) {
    const name = $("direction").value;
    const cut = on ?? !some.every((head) => (cuts().heads[name] || []).includes(head));
    commit((s) => put(s.cuts[active].heads, name, some, cut, byHead));
  }
  function controls() {
    $("undo").disabled = !past.length;
    $("redo").disabled = !future.length;
    $("reset").disabled = !state.cuts.some((one) => Object.keys(one.cells).length + Object.keys(one.heads).length);
    $("add").disabled = state.passages.length >= about.most;
    for (const button of $("hows").children) {
      button.setAttribute("aria-checked", String(button.value === state.how));
      button.tabIndex = button.value === state.how ? 0 : -1;
    }
    for (const button of $("models").children) if (button.value) button.setAttribute("aria-pressed", String(Number(button.value) === active));
    $("text").value = texts().join("; ");
    for (const { button, part } of sets) button.setAttribute("aria-pressed", String(Boolean(part) && has(cuts().cells, part.cells) && has(cuts().heads, part.heads)));
    shade();
  }
  function shade() {
    const table = numbers.shares;
    const known = Boolean(table) && numbers.model === active;
    const sums = new Map();
    if (known) for (const [name, grid] of Object.entries(table)) grid.forEach((row, layer) => sums.set(`${name} ${layer}`, row.reduce((a, b) => a + b, 0)));
    const most = Math.max(0, ...[...sums.values()].map(Math.abs));
    for (const [key, cell] of cells) {
      const [name, layer] = cell.key;
      const cut = (cuts().cells[name] || []).includes(layer);
      const some = [...(cuts().heads[name] || []), ...(cuts().heads[EVERY] || [])].filter((head) => Number(head.split(".")[0]) === layer).length;
      const value = sums.get(key);
      cell.className = `cell ${cell.classList.contains("idle") ? "idle" : ""} ${some && !cut ? "some" : ""} ${!cut && value !== undefined ? signed(value, most) : ""}`;
      cell.setAttribute("aria-pressed", String(cut));
      cell.title = `${cell.about}${cut ? "\ncut" : some ? `\n${some} of ${model().heads} heads cut` : ""}${value === undefined || cut ? "" : `\ncontributes ${printed(value, true)} to A \u2212 B`}`;
    }
    document.querySelector(".cuts").classList.toggle("old", !numbers.fresh);
    $("key").replaceChildren(el("span", {}, el("i", { class: "gone" }), "cut"), ...(known ? [el("span", {}, el("i", { class: "p6" }), "speaks for A"), el("span", {}, el("i", { class: "n6" }), "for B")] : []), el("span", {}, "click or drag; a name takes its row"));

    const name = $("direction").value;
    const what = $("shade").value;
    const grids = known && numbers[what];
    const values = new Map();
    if (grids) {
      const some = name === EVERY ? (what === "attention" ? [] : Object.values(grids)) : grids[name] ? [grids[name]] : [];
      for (const key of some.length ? heads.keys() : []) {
        const [layer, head] = key.split(".").map(Number);
        values.set(key, some.reduce((sum, grid) => sum + grid[layer][head], 0));
      }
    }
    const largest = Math.max(0, ...[...values.values()].map(Math.abs));
    const whole = cuts().heads[name] || [];
    const all = cuts().heads[EVERY] || [];
    const UNIT = { shares: "contributes", screened: "screened, not cut: A \u2212 B would change by", attention: "attention" };
    for (const [key, cell] of heads) {
      const layer = Number(key.split(".")[0]);
      const cut = whole.includes(key) || all.includes(key) || (cuts().cells[name] || []).includes(layer);
      const value = values.get(key);
      cell.className = `cell ${value === undefined || cut ? "" : what === "attention" ? unsigned(value, largest) : signed(value, largest)}`;
      cell.setAttribute("aria-pressed", String(cut));
      cell.title = `head ${key}${cut ? ", cut" : ""}${value === undefined ? "" : `\n${UNIT[what]} ${printed(value, what !== "attention")}`}`;
      cell.setAttribute("aria-label", cell.title);
    }
    const best = [...values].filter(([, value]) => value).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1])).slice(0, 10);
    $("strongest").replaceChildren(...best.map(([key, value]) => el("button", { type: "button", "aria-pressed": String(whole.includes(key)), title: "Cut this head in this direction", onclick: () => brush([key]) }, el("span", {}, key), el("span", {}, printed(value, what !== "attention")))));
    $("headnote").textContent = {
      shares: "A contribution shares out the margin; it does not say what a cut would do.",
      screened: "First-order estimate for single heads, not a cut: press a head to see what its cut does.",
      attention: "Mean share of attention from each row, over those of A and B that have both parts.",
    }[what];
  }

  // --- words and heads follow the scores
  async function follow(ticket) {
    const places = there();
    if (places.length < 2 || state.how === "mean") {
      note(state.how === "mean" ? "Under mean, a cut puts in what other passages read: words and heads have no contributions. Choose zero, mask or sink." : "Words are compared between two passages.");
      $("view").classList.add("stale");
      return;
    }
    $("view").classList.add("stale");
    if ($("view").firstChild) note("Words and heads of the change before; those of this one follow.");
    const two = { ...experiment(active), passages: places.slice(0, 2).map((place) => state.passages[place].text) };
    try {
      const of = active;
      const answer = await run("words", two, ({ heads }) => {
        if (ticket !== turn || !heads) return;
        Object.assign(numbers, heads, { model: of, shares: numbers.model === of ? numbers.shares : null });
        shade();
      });
      if (!answer || ticket !== turn) return;
      Object.assign(numbers, { shares: answer.shares, fresh: true, model: of });
      shade();
      view(answer, `${texts().length ? "Under the cuts" : "Without cuts"}: words are shaded by what they contribute. ${answer.notes}`);
    } catch (error) {
      if (ticket === turn) note(error.message);
    }
  }
  const note = (text) => ($("whynote").textContent = text);
  function view(answer, words) {
    note(words);
    const old = $("view").querySelector("[data-matchlens-view]");
    const kept = old && {
      mode: old.querySelector('[data-mode][aria-pressed="true"]')?.dataset.mode,
      head: old.querySelector('.g[aria-pressed="true"]')?.dataset.head,
      unit: old.querySelector("tr[aria-current] .unit") && [...old.querySelectorAll("tr[aria-current]")].map((one) => one.dataset.unit).find((one) => !one.includes("#")),
    };
    old?.dispatchEvent(new Event("matchlens-gone"));
    // The server's own template escaped every text in it; scripts in it do not run.
    const parsed = new DOMParser().parseFromString(answer.view, "text/html").querySelector("[data-matchlens-view]");
    const fresh = document.importNode(parsed, true);
    if (!answer.searched) [...fresh.querySelectorAll(".say")].at(-1)?.remove(); // the sentence of the swap
    $("view").replaceChildren(fresh);
    $("view").classList.remove("stale");
    window.matchlensPair();
    if (kept?.mode) fresh.querySelector(`[data-mode="${kept.mode}"]`)?.click();
    if (kept?.head) fresh.querySelector(`.g[data-head="${CSS.escape(kept.head)}"]`)?.click();
    if (kept?.unit) [...fresh.querySelectorAll("tr[data-unit]")].find((one) => one.dataset.unit === kept.unit)?.click();
  }
  async function why(apply) {
    const places = there().slice(0, 2);
    const two = { ...experiment(active), passages: places.map((place) => state.passages[place].text), cuts: [] };
    stop("words");
    const ticket = turn;
    try {
      note("Sharing out the margin, then cutting for real \u2026");
      const answer = await run("why", two);
      if (!answer) return note("Stopped by a newer change.");
      if (ticket !== turn) return;
      const text = answer.swap.join("; ");
      found = answer.swapped ? { name: "smallest swap", text, part: await ask("/api/cuts", { model: active, text }) } : null;
      view(answer, `Without cuts. ${answer.notes}`);
      chips();
      if (!apply) $("why").scrollIntoView({ block: "start", behavior: "smooth" });
      else if (!found) announce(answer.sentence);
      else replace(text, answer.sentence);
    } catch (error) {
      note(error.message);
    }
  }
  let typed = 0;
  async function replace(text, words = "") {
    const newest = ++typed;
    try {
      const part = await ask("/api/cuts", { model: active, text });
      if (newest !== typed) return;
      wrong(null);
      if (words) announce(words);
      commit((s) => {
        s.cuts[active] = { cells: sortedOf(part.cells, byLayer), heads: sortedOf(part.heads, byHead) };
        s.how = part.how;
      }, words);
      controls();
    } catch (error) {
      if (newest === typed) wrong(error);
    }
  }
  const sortedOf = (part, order) => Object.fromEntries(Object.entries(part).map(([name, some]) => [name, [...new Set(some)].sort(order)]));

  // --- sets of cuts
  function chips() {
    const named = [...model().sets.filter((one) => one.part || !one.error.includes("has no row")), ...(found ? [found] : [])];
    sets = named.map(({ name, text, part, error }) => {
      const button = el("button", { type: "button", title: text.slice(0, 400), "aria-pressed": "false" }, name);
      button.addEventListener("click", () => {
        if (!part) return wrong(new Error(error));
        const on = button.getAttribute("aria-pressed") !== "true";
        commit((s) => {
          for (const [name, some] of Object.entries(part.cells)) put(s.cuts[active].cells, name, some, on, byLayer);
          for (const [name, some] of Object.entries(part.heads)) put(s.cuts[active].heads, name, some, on, byHead);
        });
      });
      return { button, part };
    });
    $("sets").replaceChildren(...sets.map((one) => one.button));
    controls();
  }

  // --- links, lines and pages
  const coded = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const through = async (bytes, stream) => new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
  async function link() {
    const saved = { models: about.models.map((one) => one.name), active, state };
    const bytes = await through(new TextEncoder().encode(JSON.stringify(saved)), new CompressionStream("deflate-raw"));
    return `${location.origin}/?token=${encodeURIComponent(token)}#s=${coded(bytes)}`;
  }
  async function opened() {
    const text = location.hash.startsWith("#s=") ? location.hash.slice(3) : "";
    if (!text) return false;
    try {
      if (text.length > LONGEST_LINK) throw new Error();
      const bytes = Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (sign) => sign.charCodeAt(0));
      const saved = JSON.parse(new TextDecoder().decode(await through(bytes, new DecompressionStream("deflate-raw"))));
      const words = (value) => typeof value === "string" && value.length <= 100000;
      const fits = (value) => value === null || words(value);
      const one = saved.state;
      if (!words(one.query) || !fits(one.oldQuery) || !about.hows.includes(one.how)) throw new Error();
      if (!Array.isArray(one.passages) || !one.passages.length || one.passages.length > about.most) throw new Error();
      if (!one.passages.every((passage) => words(passage.text) && fits(passage.old))) throw new Error();
      const parts = about.models.map((its, of) => {
        const given = one.cuts[of] || { cells: {}, heads: {} };
        const part = { cells: {}, heads: {} };
        for (const name of [...its.directions.map((each) => each.name), EVERY]) {
          const layers = (given.cells[name] || []).filter((layer) => Number.isInteger(layer) && layer >= 0 && layer < its.layers);
          const some = (given.heads[name] || []).filter((head) => /^\d+\.\d+$/.test(head) && Number(head.split(".")[0]) < its.layers && Number(head.split(".")[1]) < its.heads);
          if (layers.length && name !== EVERY) part.cells[name] = [...new Set(layers)].sort(byLayer);
          if (some.length) part.heads[name] = [...new Set(some)].sort(byHead);
        }
        return part;
      });
      state = { query: one.query, oldQuery: one.oldQuery, how: one.how, cuts: parts, passages: one.passages.map(({ text, old, grade }) => ({ text, old, grade: Number.isInteger(grade) ? grade : null })) };
      active = saved.active === 1 && about.models.length > 1 ? 1 : 0;
      sorted = true;
      const names = about.models.map((its) => its.name);
      return JSON.stringify(saved.models) === JSON.stringify(names) ? "" : `This link was made with ${listed(saved.models.map(String).slice(0, 2))}; here runs ${listed(names)}, so that numbers differ.`;
    } catch {
      return "This link cannot be read: copy it again, whole.";
    }
  }
  async function copied(text, button) {
    const was = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied: the browser refuses";
    }
    setTimeout(() => (button.textContent = was), 1600);
  }

  // --- the collection
  let query = null;
  let wanted = 0;
  async function search() {
    const ticket = ++wanted;
    const { queries, more } = await ask("/api/queries", { search: $("search").value });
    if (ticket !== wanted) return;
    $("queries").replaceChildren(
      ...queries.map((one) => el("li", {}, el("button", { type: "button", onclick: () => choose(one.number) }, one.query))),
      ...(more > 0 ? [el("li", { class: "soft" }, `${more} more: search for a word`)] : []),
    );
  }
  async function choose(number) {
    const { query: text, candidates } = await ask("/api/candidates", { query: number });
    query = { text, candidates };
    $("candidates").replaceChildren(...candidates.map((one, place) => {
      const box = el("input", { type: "checkbox", value: place });
      box.checked = one.chosen;
      box.addEventListener("change", count);
      return el("li", {}, el("label", {}, box, el("b", {}, `grade ${one.grade}`), el("span", {}, one.text.slice(0, 300))));
    }));
    count();
  }
  const taken = () => [...$("candidates").querySelectorAll("input:checked")].map((box) => query.candidates[Number(box.value)]);
  function count() {
    const many = taken().length;
    $("chosen").textContent = `${query.text} \u2013 ${many} of ${query.candidates.length} passages chosen, at most ${about.most}`;
    $("use").disabled = many < 1 || many > about.most;
  }
  function use() {
    const texts = taken().map((one) => ({ text: one.text, old: null, grade: one.grade }));
    $("collection").close();
    sorted = false;
    shown.forEach((one) => Object.assign(one, { now: null, old: null }));
    commit((s) => Object.assign(s, { query: query.text, oldQuery: null, passages: texts }));
    draw();
  }

  // --- what answers to clicks and keys
  $("undo").addEventListener("click", () => back(past, future));
  $("redo").addEventListener("click", () => back(future, past));
  $("reset").addEventListener("click", () => commit((s) => (s.cuts = untouched())));
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || /^(TEXTAREA|INPUT)$/.test(event.target.tagName)) return;
    const key = event.key.toLowerCase();
    if (key === "z" || key === "y") {
      event.preventDefault();
      if (key === "y" || event.shiftKey) back(future, past);
      else back(past, future);
    }
  });
  $("query").addEventListener("input", () => edit(() => {
    if (state.oldQuery === null && state.query.trim()) state.oldQuery = state.query;
    state.query = $("query").value.replace(/\s*\n\s*/g, " ");
    if (state.oldQuery === state.query) state.oldQuery = null;
  }, $("query")));
  $("query").addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  $("query").addEventListener("blur", () => (typing = null));
  $("add").addEventListener("click", () => {
    state.passages.push({ text: "", old: null });
    shown.forEach((one) => [one.now, one.old].filter(Boolean).forEach((some) => Object.keys(some).forEach((name) => name !== "words" && some[name].push(null))));
    draw();
    rows.at(-1).text.focus();
  });
  for (const how of about.hows) {
    const title = { zero: "set to 0 after the softmax", mask: "removed before the softmax: the rest is renormalised", mean: "replaced by its mean over the passages shown", sink: "moved to the last SEP" }[how];
    $("hows").append(el("button", { type: "button", role: "radio", value: how, title, onclick: () => commit((s) => (s.how = how)) }, how));
  }
  $("hows").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const place = (about.hows.indexOf(state.how) + by + about.hows.length) % about.hows.length;
    commit((s) => (s.how = about.hows[place]));
    $("hows").children[place].focus();
  });
  if (about.models.length === 1) $("models").append(el("span", { title: model().notes.join("\n") }, model().name));
  else {
    about.models.forEach((one, of) => $("models").append(el("button", { type: "button", value: String(of), title: "Show and cut this model", onclick: () => {
      active = of;
      found = null;
      build();
      chips();
      refresh(null);
    } }, one.name)));
  }
  $("text").addEventListener("change", () => replace($("text").value));
  $("direction").addEventListener("change", shade);
  $("shade").addEventListener("change", shade);
  $("why").addEventListener("click", () => why(false));
  $("swap").addEventListener("click", () => why(true));
  $("edited").addEventListener("click", async () => {
    const place = state.passages.findIndex((one) => one.old !== null);
    const one = state.passages[place];
    const ticket = turn;
    try {
      const answer = await run("words", { ...experiment(active), passages: [one.text, one.old] });
      if (answer && ticket === turn) view(answer, `A is the new text of ${LETTERS[place]}, B the old one. ${answer.notes}`);
    } catch (error) {
      note(error.message);
    }
  });
  $("link").addEventListener("click", async () => copied(await link(), $("link")));
  $("python").addEventListener("click", async () => {
    try {
      $("code").textContent = (await ask("/api/lines", experiment(active))).lines;
      $("lines").showModal();
    } catch (error) {
      wrong(error);
    }
  });
  $("copy").addEventListener("click", () => copied($("code").textContent, $("copy")));
  $("save").addEventListener("click", async () => {
    try {
      const answer = await run("page", { ...experiment(active), title: state.query.slice(0, 200) });
      if (!answer) return;
      download([answer.page], "text/html", "matchlens-live.html");
    } catch (error) {
      wrong(error);
    }
  });
  $("browse").hidden = !about.queries;
  $("browse").addEventListener("click", () => {
    $("collection").showModal();
    search().catch(wrong);
  });
  $("search").addEventListener("input", () => search().catch(wrong));
  $("use").addEventListener("click", use);
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  theme($("theme"));
  addEventListener("hashchange", () => start());
  addEventListener("pagehide", () => working.forEach((one) => one.abort()));

  async function start() {
    const words = await opened();
    build();
    chips();
    draw();
    await refresh(null);
    if (words) announce(words);
  }
  start();
})();
