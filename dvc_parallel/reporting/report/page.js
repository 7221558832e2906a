"use strict";
(() => {
  // What page.py has written: see page_data there.
  const run = JSON.parse(document.getElementById("data").textContent);
  const PHASES = ["ready", "lock", "check", "command", "save"];
  const LONG = 40;  // a name that may be broken into lines, as in markup.py
  const READY = 0, LOCK = 1, CHECK = 2, COMMAND = 3, SAVE = 4;
  const BROKEN = new Set(["failed", "interrupted"]);
  const $ = (id) => document.getElementById(id);

  const stages = run.stages.map((row, index) => {
    const [name, outcome, slot, lane, behind, why, times, detail, error, worker, used] = row;
    const [cpu, memory, read, written] = used || [null, null, null, null];
    const spans = [];
    for (let i = 0; i + 2 < times.length; i += 2) spans.push([times[i], times[i + 1], times[i + 2]]);
    const seconds = [0, 0, 0, 0, 0];
    for (const [start, phase, end] of spans) seconds[phase] += end - start;
    const work = spans.filter((span) => span[1] !== READY);
    const commands = work.filter((span) => span[1] === COMMAND);
    return {
      index, name, outcome, slot, lane, behind, why, spans, seconds, detail, error, worker, cpu, memory, read, written, lower: name.toLowerCase(),
      ready: spans.length ? spans[0][0] : null, begun: work.length ? work[0][0] : null,
      end: spans.length ? spans[spans.length - 1][2] : null,
      held: commands.length ? commands[commands.length - 1][2] : (spans.length ? spans[spans.length - 1][2] : null),
      busy: seconds[CHECK] + seconds[COMMAND] + seconds[SAVE], critical: false, match: true,
    };
  });
  const path = run.path.map(([index, start, end]) => Object.assign(stages[index], { critical: true, since: start, until: end }));
  const started = stages.filter((stage) => stage.begun !== null).sort((a, b) => a.begun - b.begun || a.index - b.index);

  // One row for each slot, then one for each stage that is saved at a time.
  const rows = [];
  for (let i = 0; i < run.slots; i++) rows.push({ label: `slot ${i + 1}`, pieces: [] });
  for (let i = 0; i < run.lanes; i++) rows.push({ label: `saving ${i + 1}`, pieces: [] });
  for (const stage of started) {
    const put = (row, from, to) => {
      const spans = stage.spans.filter((span) => span[1] !== READY && span[0] >= from && span[0] < to);
      // Of what the path goes through, it may leave out the end, or wait for its start.
      const critical = stage.critical && from < stage.until && to > stage.since;
      rows[row].pieces.push({ stage, from, to, spans, critical });
    };
    if (stage.slot !== null) put(stage.slot, stage.begun, stage.held);
    if (stage.lane !== null) put(run.slots + stage.lane, stage.held, stage.end);
  }
  rows.forEach((row) => row.pieces.sort((a, b) => a.from - b.from));

  const time = (seconds) => {
    if (seconds === null) return "–";
    if (seconds < 0.0995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
    if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
    const whole = Math.round(seconds), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    return h ? `${h} h ${m} min` : `${m} min ${s} s`;
  };

  const size = (bytes) => {
    if (bytes === null) return "–";
    const units = ["B", "KiB", "MiB", "GiB"], power = bytes ? Math.min(3, Math.floor(Math.log2(bytes) / 10)) : 0;
    const count = bytes / 1024 ** power;
    return `${count.toFixed(count >= 10 || !power ? 0 : 1)} ${units[power]}`;
  };

  // ---- the chart ----
  const canvas = $("canvas"), context = canvas.getContext("2d"), tip = $("tip");
  const LEFT = 66, OVERVIEW = 34, AXIS = 20, GAP = 3;
  const ROW = rows.length > 40 ? 12 : rows.length > 20 ? 16 : 22;
  const MEMORY = run.memory.length ? 44 : 0, most = Math.max(1, ...run.memory.map(([, bytes]) => bytes));
  const TOP = OVERVIEW + AXIS, BOTTOM = TOP + rows.length * ROW + 6, HEIGHT = BOTTOM + MEMORY;
  const total = Math.max(run.seconds, 1e-6);
  let from = 0, to = total, width = 0, selected = null, searching = false, scheduled = false, colors = {};

  const x = (seconds) => LEFT + ((seconds - from) / (to - from)) * (width - LEFT);
  const secondsAt = (pixel) => from + ((pixel - LEFT) / (width - LEFT)) * (to - from);

  function readColors() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["page", "raised", "text", "muted", "line", "edge", "command", "check", "save", "lock", "failed", "critical", "link", "on-color"])
      colors[name] = style.getPropertyValue(`--${name}`).trim();
    colors.phases = [colors.edge, colors.lock, colors.check, colors.command, colors.save];
  }
  function resize() {
    width = canvas.parentElement.clientWidth;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.round(HEIGHT * ratio);
    canvas.style.height = `${HEIGHT}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    schedule();
  }
  function schedule() {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => { scheduled = false; draw(); });
  }

  // How many stages ran in each of the parts of the run, for the overview.
  const PARTS = 600, usage = new Float64Array(PARTS);
  for (const stage of started) {
    const first = (stage.begun / total) * PARTS, last = (stage.held / total) * PARTS;
    for (let part = Math.floor(first); part < Math.min(last, PARTS); part++)
      usage[part] += Math.min(part + 1, last) - Math.max(part, first);
  }

  function firstVisible(pieces) {
    let low = 0, high = pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pieces[middle].to < from) low = middle + 1; else high = middle;
    }
    return low;
  }
  function step() {
    const wanted = (to - from) / Math.max(2, (width - LEFT) / 90);
    const units = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
    if (wanted < 1) {
      const power = 10 ** Math.floor(Math.log10(wanted));
      return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted);
    }
    return units.find((unit) => unit >= wanted) || Math.ceil(wanted / 86400) * 86400;
  }
  function tick(seconds, unit) {
    if (unit < 1) return `${seconds.toFixed(Math.min(6, Math.ceil(-Math.log10(unit))))} s`;
    const whole = Math.round(seconds), pad = (n) => String(n).padStart(2, "0");
    if (total < 120) return `${whole} s`;
    const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60;
    return h || total >= 3600 ? `${h}:${pad(m)}:${pad(whole % 60)}` : `${m}:${pad(whole % 60)}`;
  }

  function drawOverview() {
    const place = (seconds) => LEFT + (seconds / total) * (width - LEFT);
    const high = OVERVIEW - 8, bottom = OVERVIEW - 4;
    context.fillStyle = colors.muted;
    context.textAlign = "left";
    context.fillText("running", 6, bottom - 10);
    context.fillStyle = colors.check;
    const part = (width - LEFT) / PARTS;
    context.beginPath();
    context.moveTo(LEFT, bottom);
    for (let i = 0; i < PARTS; i++) {
      const top = bottom - Math.min(1, usage[i] / run.slots) * high;
      context.lineTo(LEFT + i * part, top);
      context.lineTo(LEFT + (i + 1) * part, top);
    }
    context.lineTo(width, bottom);
    context.fill();
    const left = place(from), right = place(to);
    context.globalAlpha = 0.65;
    context.fillStyle = colors.page;
    context.fillRect(LEFT, 0, left - LEFT, OVERVIEW - 2);
    context.fillRect(right, 0, width - right, OVERVIEW - 2);
    context.globalAlpha = 1;
    context.strokeStyle = colors.link;
    context.lineWidth = 1.5;
    context.strokeRect(left + 0.75, 2, Math.max(2, right - left - 1.5), OVERVIEW - 5);
  }

  // A name in little room: without the folders above its own, then without what others have as well,
  // as stages of a foreach begin with the same, and stages of several dvc.yaml end with it.
  function fitted(before, name, room) {
    const short = name.replace(/^(?:[^:]*\/)?([^/:]+)\/dvc\.yaml:/, "$1:");
    const fits = (text) => context.measureText(before + text).width <= room;
    for (const text of [name, short]) if (fits(text)) return before + text;
    const cut = (count) => (short.includes("@") ? `…${short.slice(-count)}` : `${short.slice(0, count)}…`);
    let low = 1, high = short.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (fits(cut(middle))) low = middle; else high = middle - 1;
    }
    return before + cut(low);
  }

  function drawRow(row, number) {
    const y = TOP + number * ROW, height = ROW - GAP;
    let filled = -1;
    for (let i = firstVisible(row.pieces); i < row.pieces.length; i++) {
      const piece = row.pieces[i], stage = piece.stage;
      if (piece.from > to) break;
      const left = Math.max(LEFT, x(piece.from)), right = Math.min(width, Math.max(x(piece.to), left + 1));
      // Of those that fall onto one pixel, the first is drawn, and what must not be missed.
      const special = piece.critical || BROKEN.has(stage.outcome) || stage === selected || (searching && stage.match);
      if (right - left < 1.01 && Math.floor(left) === filled && !special) continue;
      filled = Math.floor(left);
      context.globalAlpha = searching && !stage.match ? 0.18 : 1;
      const broken = BROKEN.has(stage.outcome);
      for (const [start, phase, end] of piece.spans) {
        const a = Math.max(LEFT, x(start)), b = Math.min(width, x(end));
        if (b <= LEFT || a >= width) continue;
        context.fillStyle = broken && phase === COMMAND ? colors.failed : colors.phases[phase];
        context.fillRect(a, y, Math.max(b - a, 0.6), height);
      }
      if (right - left > 3 && i + 1 < row.pieces.length) {
        context.fillStyle = colors.page;
        context.fillRect(right - 0.5, y, 0.5, height);
      }
      if (piece.critical) {
        context.fillStyle = colors.critical;
        context.fillRect(left, y - 1, right - left, 3);
        context.fillRect(left, y + height - 1, right - left, 2);
      }
      if (stage === selected) {
        context.strokeStyle = colors.link;
        context.lineWidth = 2;
        context.strokeRect(left, y - 1, Math.max(3, right - left), height + 2);
      }
      if (right - left > 34 && height > 12) {
        context.save();
        context.beginPath();
        context.rect(left, y, right - left, height);
        context.clip();
        context.fillStyle = colors["on-color"];
        context.fillText(fitted(broken ? "× " : "", stage.name, right - left - 8), left + 5, y + height / 2 + 1);
        context.restore();
      }
      context.globalAlpha = 1;
    }
  }

  // What all stages used together, below the rows.
  function drawMemory() {
    if (!MEMORY) return;
    const bottom = HEIGHT - 4, high = MEMORY - 12;
    context.fillStyle = colors.muted;
    context.textAlign = "left";
    context.fillText("memory", 6, bottom - high + 5);
    context.fillText(size(most), 6, bottom - high + 19);
    context.save();
    context.beginPath();
    context.rect(LEFT, BOTTOM, width - LEFT, MEMORY);
    context.clip();
    context.fillStyle = colors.check;
    context.beginPath();
    let last = bottom;
    for (const [when, bytes] of run.memory) {
      context.lineTo(x(when), last);
      last = bottom - (bytes / most) * high;
      context.lineTo(x(when), last);
    }
    context.lineTo(width, last);
    context.lineTo(width, bottom);
    context.fill();
    context.restore();
  }

  // A line from each stage of the critical path to the next one.
  function drawPath() {
    context.strokeStyle = colors.critical;
    context.lineWidth = 1;
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP - 2, width - LEFT, BOTTOM - TOP);
    context.clip();
    context.beginPath();
    for (let i = 1; i < path.length; i++) {
      const last = path[i - 1], next = path[i];
      const saved = last.lane !== null && path[i].why === "upstream";
      const start = saved ? last.end : last.held;
      if (next.begun < from || start > to) continue;
      const row = saved ? run.slots + last.lane : last.slot;
      if (row === null || next.slot === null || row === next.slot) continue;
      const middle = ROW / 2 - 1;
      context.moveTo(x(start), TOP + row * ROW + middle);
      context.lineTo(x(next.begun), TOP + next.slot * ROW + middle);
    }
    context.stroke();
    context.restore();
  }

  function draw() {
    context.clearRect(0, 0, width, HEIGHT);
    context.font = "11px system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif";
    context.textBaseline = "middle";
    drawOverview();
    const unit = step();
    context.textAlign = "center";
    for (let mark = Math.ceil(from / unit) * unit; mark <= to; mark += unit) {
      const place = Math.round(x(mark)) + 0.5;
      context.strokeStyle = colors.line;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(place, TOP - 4);
      context.lineTo(place, HEIGHT);
      context.stroke();
      context.fillStyle = colors.muted;
      if (place < width - 20) context.fillText(tick(mark, unit), Math.max(place, LEFT + 10), OVERVIEW + AXIS / 2);
    }
    rows.forEach((row, number) => {
      context.textAlign = "left";
      context.fillStyle = colors.muted;
      context.fillText(row.label, 6, TOP + number * ROW + (ROW - GAP) / 2);
      drawRow(row, number);
    });
    drawPath();
    drawMemory();
  }

  function view(newFrom, newTo) {
    const least = Math.max(total / 1e6, 1e-5);
    let size = Math.min(total, Math.max(least, newTo - newFrom));
    from = Math.min(Math.max(0, newFrom), total - size);
    to = from + size;
    schedule();
  }
  const zoom = (factor, around = (from + to) / 2) =>
    view(around - (around - from) * factor, around + (to - around) * factor);
  const pan = (part) => view(from + (to - from) * part, to + (to - from) * part);

  function zoomTo(stage) {
    const size = Math.max(stage.end - stage.begun, total / 1e5);
    view(stage.begun - size * 0.75, stage.end + size * 0.75);
  }
  function show(stage) {
    if (stage.end < from || stage.begun > to) {
      const size = to - from;
      view((stage.begun + stage.end - size) / 2, (stage.begun + stage.end + size) / 2);
    }
  }

  const WHY = { start: "It waited for no other stage.", upstream: "It last waited for its upstream stage", slot: "It last waited for the slot of", pool: "It last waited for a pool used by" };
  function reason(stage) {
    if (!stage.why) return "";
    return stage.behind === null ? WHY.start : `${WHY[stage.why]} ${stages[stage.behind].name}.`;
  }
  function told(stage) {
    const lines = [`${stage.name}: ${stage.outcome}${stage.critical ? ", on the critical path" : ""}`];
    if (stage.begun === null) return lines;
    lines.push(`${time(stage.begun)} to ${time(stage.end)} of the run, ${time(stage.end - stage.begun)}`);
    const parts = [];
    if (stage.seconds[READY] > 0) parts.push(`waited for a slot ${time(stage.seconds[READY])}`);
    for (const [phase, word] of [[LOCK, "waited for the repo"], [CHECK, "check"], [COMMAND, "command"], [SAVE, "save"]])
      if (stage.seconds[phase] > 0) parts.push(`${word} ${time(stage.seconds[phase])}`);
    lines.push(parts.join(", "));
    if (stage.cpu !== null || stage.memory !== null)
      lines.push(`CPU time ${time(stage.cpu)}, memory ${size(stage.memory)}, read ${size(stage.read)}, written ${size(stage.written)}`);
    return lines;
  }
  function select(stage) {
    selected = stage;
    const box = $("selected");
    box.replaceChildren();
    if (stage) {
      const [first, ...rest] = told(stage);
      box.append(element("strong", first));
      for (const line of [...rest, reason(stage), stage.error]) if (line) box.append(element("div", line));
      if (stage.worker) box.append(element("div", `on ${stage.worker}`));
      if (stage.detail) box.append(element("code", `> ${stage.detail}`));
    }
    schedule();
  }
  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function at(event) {
    const box = canvas.getBoundingClientRect();
    const left = event.clientX - box.left, top = event.clientY - box.top;
    const row = top < BOTTOM ? rows[Math.floor((top - TOP) / ROW)] : undefined;
    if (!row || left < LEFT) return null;
    const slack = ((to - from) / Math.max(1, width - LEFT)) * 2, now = secondsAt(left);
    let best = null, distance = slack;
    for (let i = Math.max(0, firstVisible(row.pieces) - 1); i < row.pieces.length && row.pieces[i].from <= now + slack; i++) {
      const piece = row.pieces[i];
      const off = Math.max(piece.from - now, now - piece.to, 0);
      if (off < distance || (off === 0 && distance === 0)) { best = piece.stage; distance = off; }
    }
    return best;
  }

  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const box = canvas.getBoundingClientRect();
    drag = { left: event.clientX, from, to, moved: false, overview: event.clientY - box.top < OVERVIEW };
    canvas.setPointerCapture(event.pointerId);
    if (drag.overview) center(event);
  });
  function center(event) {
    const box = canvas.getBoundingClientRect(), size = to - from;
    const middle = ((event.clientX - box.left - LEFT) / (width - LEFT)) * total;
    view(middle - size / 2, middle + size / 2);
  }
  canvas.addEventListener("pointermove", (event) => {
    if (drag && drag.overview) { center(event); return; }
    if (drag) {
      const by = event.clientX - drag.left;
      if (Math.abs(by) > 3) drag.moved = true;
      if (drag.moved) {
        const shift = (by / (width - LEFT)) * (drag.to - drag.from);
        canvas.classList.add("dragged");
        view(drag.from - shift, drag.to - shift);
      }
      tip.hidden = true;
      return;
    }
    const stage = at(event);
    tip.hidden = !stage;
    if (!stage) return;
    tip.textContent = told(stage).join("\n");
    const box = canvas.getBoundingClientRect(), left = event.clientX - box.left;
    tip.style.top = `${event.clientY - box.top + 16}px`;
    tip.style.left = `${Math.max(0, Math.min(left + 12, width - tip.offsetWidth - 4))}px`;
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved && !drag.overview) select(at(event));
    drag = null;
    canvas.classList.remove("dragged");
  });
  canvas.addEventListener("pointercancel", () => { drag = null; });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("dblclick", (event) => { const stage = at(event); if (stage) zoomTo(stage); });
  canvas.addEventListener("wheel", (event) => {
    const scale = event.deltaMode === 1 ? 16 : 1;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(Math.exp(event.deltaY * scale * 0.003), secondsAt(Math.max(LEFT, event.clientX - box.left)));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan(((event.deltaX || event.deltaY) * scale) / (width - LEFT));
    }
  }, { passive: false });

  function go(list, by) {
    if (!list.length) return;
    let place = list.indexOf(selected);
    if (place < 0) {
      // From where the view is, or from the stage that is selected.
      const now = selected ? selected.begun : from;
      place = list.findIndex((stage) => stage.begun >= now);
      if (place < 0) place = by > 0 ? 0 : list.length - 1; else if (by < 0) place = Math.max(0, place - 1);
    } else place = Math.min(list.length - 1, Math.max(0, place + by));
    select(list[place]);
    show(list[place]);
  }
  const KEYS = {
    ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6),
    0: () => view(0, total), Home: () => view(0, to - from), End: () => view(total - (to - from), total),
    ArrowDown: () => go(matching(), 1), ArrowUp: () => go(matching(), -1),
    c: () => go(path, 1), C: () => go(path, -1),
    Enter: () => { if (selected) zoomTo(selected); }, Escape: () => select(null),
  };
  canvas.addEventListener("keydown", (event) => {
    const action = !event.ctrlKey && !event.metaKey && !event.altKey && Object.hasOwn(KEYS, event.key) && KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  $("in").addEventListener("click", () => zoom(0.6));
  $("out").addEventListener("click", () => zoom(1 / 0.6));
  $("all").addEventListener("click", () => view(0, total));
  $("next").addEventListener("click", () => go(path, 1));
  $("previous").addEventListener("click", () => go(path, -1));

  // ---- search, and the table of all stages ----
  const matching = () => (searching ? started.filter((stage) => stage.match) : started);
  $("find").addEventListener("input", () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    searching = words.length > 0;
    let count = 0;
    for (const stage of stages) {
      stage.match = words.every((word) => stage.lower.includes(word));
      count += stage.match;
    }
    $("found").textContent = searching ? `${count} of ${stages.length}` : "";
    shown = STEP;
    fill();
    schedule();
  });
  $("find").addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    go(matching(), event.shiftKey ? -1 : 1);
    if (selected) zoomTo(selected);
  });

  const STEP = 100;
  const USED = [["CPU time", (stage) => stage.cpu], ...["memory", "read", "written"].map((name) => [name, (stage) => stage[name], size])];
  const COLUMNS = [
    ["stage", (stage) => stage.name], ["outcome", (stage) => stage.outcome],
    ["ready at", (stage) => stage.ready], ["waited for a slot", (stage) => stage.begun === null ? null : stage.seconds[READY]],
    ["started at", (stage) => stage.begun], ["waited for the repo", (stage) => stage.begun === null ? null : stage.seconds[LOCK]],
    ["check", (stage) => stage.begun === null ? null : stage.seconds[CHECK]],
    ["command", (stage) => stage.begun === null ? null : stage.seconds[COMMAND]],
    ["save", (stage) => stage.begun === null ? null : stage.seconds[SAVE]],
    ["ended at", (stage) => stage.begun === null ? null : stage.end],
    ...USED.filter(([, value]) => stages.some((stage) => value(stage) !== null)),
    ["critical", (stage) => (stage.critical ? "yes" : "")],
  ];
  const isNumber = (column) => column > 1 && column < COLUMNS.length - 1;
  let shown = STEP, sortedBy = -1, down = false;
  COLUMNS.forEach(([label], column) => {
    const head = element("th", undefined, isNumber(column) ? "number" : "");
    head.scope = "col";
    const button = element("button", label);
    button.type = "button";
    button.addEventListener("click", () => {
      down = sortedBy === column ? !down : column > 1;
      sortedBy = column;
      [...$("columns").children].forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      fill();
    });
    head.append(button);
    $("columns").append(head);
  });
  function fill() {
    const list = stages.filter((stage) => stage.match);
    if (sortedBy >= 0) {
      const value = COLUMNS[sortedBy][1], sign = down ? -1 : 1;
      const order = (a, b) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
      };
      list.sort((a, b) => order(value(a), value(b)) || a.index - b.index);
    }
    const body = document.createDocumentFragment();
    for (const stage of list.slice(0, shown)) {
      const row = document.createElement("tr");
      COLUMNS.forEach(([, value, text = (seconds) => seconds.toFixed(3)], column) => {
        const what = value(stage);
        const cell = element(column ? "td" : "th", typeof what === "number" ? text(what) : what ?? "–", !column ? `name${what.length > LONG ? " long" : ""}` : isNumber(column) ? "number" : "");
        if (!column) cell.scope = "row";
        row.append(cell);
      });
      body.append(row);
    }
    $("rows").replaceChildren(body);
    $("more").hidden = list.length <= shown;
    $("shown").textContent = `${Math.min(shown, list.length)} of ${list.length}`;
  }
  $("more").addEventListener("click", () => { shown += 5 * STEP; fill(); });

  // A page that renews itself while its run goes on stays as the user has left it.
  function renew() {
    const key = `dvc-parallel ${location.pathname}`;
    // A browser may keep pages from storing anything.
    try {
      const was = JSON.parse(sessionStorage.getItem(key));
      sessionStorage.removeItem(key);
      if (document.querySelector("meta[http-equiv=refresh]"))
        addEventListener("pagehide", () => {
          const zoom = to - from < total ? [from, to] : null, text = document.activeElement === $("find");
          const now = { place: [scrollX, scrollY], find: $("find").value, text, zoom, selected: selected && selected.index, shown, sortedBy, down };
          sessionStorage.setItem(key, JSON.stringify(now));
        });
      if (!was) return;
      $("find").value = was.find;
      $("find").dispatchEvent(new Event("input"));
      if (was.text) $("find").focus({ preventScroll: true });
      if (was.selected !== null) select(stages[was.selected]);
      if (was.zoom) view(...was.zoom);
      const head = $("columns").children[was.sortedBy];
      if (head) head.firstChild.click();
      if (head && down !== was.down) head.firstChild.click();
      shown = was.shown;
      fill();
      scrollTo(...was.place);
    } catch { /* It is as when it was opened. */ }
  }

  $("no-script").hidden = true;
  $("chart").hidden = false;
  $("stages").hidden = false;
  readColors();
  fill();
  resize();
  renew();
  new ResizeObserver(resize).observe(canvas.parentElement);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); schedule(); });
})();
