/* The claims explorer, the search, the filters and the calculator. No library, and no request: file:// works too. */
(() => {
  "use strict";
  const zh = document.documentElement.lang.startsWith("zh");
  const T = zh
    ? { all: { tier: "全部类别", verdict: "全部结论", paper: "全部论文" }, find: "在论断中查找", sort: "排序：",
        orders: { record: "按论文顺序", verdict: "按结论", title: "按标题", cost: "按耗时" }, of: "条，共", us: "自设基准",
        tiers: { exact: "精确", printed: "数字核算", trend: "趋势", speed: "速度", paper: "论文规模" },
        verdicts: { reproduced: "✓ 已复现 / 吻合 / 达到", "not reproduced": "✗ 未复现 / 不吻合 / 未达到", undecided: "? 未定", "not run": "– 未运行" },
        says: "论文", ours: "实测", theirs: "论文值", criterion: "判据", why: "判据的理由", controls: "对照", history: "时间", fixed: "判据写定于", measured: "首次测得于",
        commit: "提交", code: "测量代码", earlier: "此前", where: "测量环境", writeup: "正文", record: "记录", seconds: "秒", unit: "条",
        legend: "短竖线：一个种子或一轮；横条：95% 置信区间；圆点：均值；浅色区：判据接受的范围；菱形：论文的值", seed: "实测值",
        nothing: "没有找到。", hits: "条结果", typing: "输入要找的词", filter: "筛选", claim: "论断", several: "页" }
    : { all: { tier: "All tiers", verdict: "All verdicts", paper: "All papers" }, find: "Find in the claims", sort: "Sort: ",
        orders: { record: "the papers' order", verdict: "verdict", title: "title", cost: "time it takes" }, of: "of", us: "our own",
        tiers: { exact: "exact", printed: "printed sum", trend: "trend", speed: "speed", paper: "paper's scale" },
        verdicts: { reproduced: "✓ reproduced, adds up, held", "not reproduced": "✗ not reproduced, does not add up, missed", undecided: "? undecided", "not run": "– not run" },
        says: "The paper", ours: "Ours", theirs: "The paper's value", criterion: "Criterion", why: "Why this criterion", controls: "Controls", history: "History", fixed: "criterion fixed", measured: "first measured",
        commit: "commit", code: "The code that measures it", earlier: "Earlier", where: "Measured on", writeup: "write-up", record: "record", seconds: "s", unit: "claims",
        legend: "Ticks: one seed or round each. Bar: 95 % interval. Dot: mean. Pale region: what the criterion accepts. Diamond: the paper's value", seed: "measured",
        nothing: "Nothing found.", hits: "results", typing: "Type what you look for", filter: "Filter", claim: "Claim", several: "pages" };
  const source = zh ? "../source/" : "source/";

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }

  function select(name, options, change) {
    const node = make("select", { name, "aria-label": name, onchange: change });
    for (const [value, text] of options) node.append(make("option", { value }, text));
    return node;
  }

  /* ---- claims ---- */
  function explorer(root) {
    const claims = window.CLAIMS;
    const papers = [...new Set(claims.map((claim) => claim.slug))];
    const word = make("input", { type: "search", name: "q", placeholder: T.find, "aria-label": T.find, oninput: () => apply(true) });
    const tier = select("tier", [["", T.all.tier], ...Object.entries(T.tiers), ["us", T.us]], () => apply(true));
    const verdict = select("verdict", [["", T.all.verdict], ...Object.entries(T.verdicts)], () => apply(true));
    const paper = select("paper", [["", T.all.paper], ...papers.map((slug) => [slug, slug])], () => apply(true));
    const sort = select("sort", Object.entries(T.orders).map(([key, text]) => [key, T.sort + text]), () => apply(true));
    const fields = { q: word, tier, verdict, paper, sort };
    const count = make("p", { class: "count", "aria-live": "polite" });
    const list = make("div", { class: "claims" });
    root.append(make("div", { class: "tools" }, word, tier, verdict, paper, sort), count, list);
    const rows = claims.map((claim, n) => ({ claim, n, node: row(claim), text: [claim.id, claim.title, claim.what, claim.where].join(" ").toLowerCase() }));
    const ranks = Object.keys(T.verdicts);
    const orders = {
      record: (a, b) => a.n - b.n,
      verdict: (a, b) => ranks.indexOf(a.claim.verdict) - ranks.indexOf(b.claim.verdict) || a.n - b.n,
      title: (a, b) => a.claim.title.localeCompare(b.claim.title, document.documentElement.lang),
      cost: (a, b) => (b.claim.seconds || 0) - (a.claim.seconds || 0),
    };

    function apply(keep) {
      const words = word.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = rows.filter(({ claim, text }) =>
        (!tier.value || (tier.value === "us" ? claim.by === "us" : claim.tier === tier.value && claim.by !== "us")) &&
        (!verdict.value || claim.verdict === verdict.value) && (!paper.value || claim.slug === paper.value) &&
        words.every((each) => text.includes(each))).sort(orders[sort.value || "record"]);
      list.replaceChildren(...shown.map(({ node }) => node));
      count.textContent = zh ? `${shown.length} 条，共 ${rows.length} 条` : `${shown.length} of ${rows.length} claims`;
      if (keep) {
        const state = new URLSearchParams(Object.entries(fields).map(([key, field]) => [key, field.value]).filter(([key, value]) => value && !(key === "sort" && value === "record")));
        history.replaceState(null, "", String(state) ? `#?${state}` : location.pathname + location.search);
      }
    }

    function follow() {
      const hash = decodeURIComponent(location.hash.slice(1));
      const asked = new URLSearchParams(hash.startsWith("?") ? hash.slice(1) : "");
      for (const [key, field] of Object.entries(fields)) field.value = asked.get(key) || (key === "sort" ? "record" : "");
      apply(false);
      const target = rows.find(({ claim }) => claim.id === hash);
      if (target) { target.node.open = true; target.node.scrollIntoView(); }
    }
    window.addEventListener("hashchange", follow);
    follow();
  }

  function row(claim) {
    const mark = make("span", { class: `verdict ${claim.verdict.replace(" ", "-")}` }, claim.told);
    const kind = claim.by === "us" ? T.us : T.tiers[claim.tier];
    const node = make("details", { class: "claim", id: claim.id },
      make("summary", {}, make("span", { class: "title" }, claim.title, make("span", { class: "of" }, `${claim.slug} · ${kind} · ${claim.where}`)),
        make("span", { class: "num" }, claim.ours), make("span", { class: "num theirs-cell" }, claim.theirs), mark));
    node.addEventListener("toggle", () => {
      if (node.open && node.children.length === 1) node.append(body(claim, node.clientWidth));
      if (node.open) history.replaceState(null, "", `#${claim.id}`);
    });
    return node;
  }

  function body(claim, width) {
    const facts = make("dl", { class: "facts" });
    const fact = (name, ...value) => facts.append(make("dt", {}, name), make("dd", {}, ...value));
    const dated = [claim.fixed && `${T.fixed} ${claim.fixed[1]} (${T.commit} ${claim.fixed[0]})`, claim.measured && `${T.measured} ${claim.measured[1]} (${claim.measured[0]})`].filter(Boolean).join(zh ? "；" : "; ");
    const stop = zh ? "：" : ": ";
    fact(T.says, make("a", { href: claim.link }, claim.cite), make("ul", {}, ...claim.says.map((each) => make("li", {}, each.where + stop + each.what))));
    if (claim.theirs !== "–") fact(T.theirs, claim.theirs);
    fact(T.ours, claim.ours);
    if (claim.criteria.length) fact(T.criterion, make("ul", {}, ...claim.criteria.map((text) => make("li", {}, text))));
    if (dated) fact(T.history, dated);
    fact(T.why, claim.why);
    if (claim.controls.length) fact(T.controls, ...claim.controls.flatMap((id, n) => [n ? ", " : "", make("a", { href: `#${claim.slug}/${id}` }, id)]));
    if (claim.earlier) fact(T.earlier, claim.earlier);
    if (claim.machines && claim.machines.length) fact(T.where, `${claim.machines.join(zh ? "；" : "; ")}, ${claim.seconds} ${T.seconds}`);
    const links = [make("a", { href: `packages/${claim.slug}/index.html` }, T.writeup), " · ", make("a", { href: `${source}papers/${claim.paper}.toml.html` }, T.record)];
    if (claim.code) links.push(" · ", make("a", { href: `${source}${claim.code.path}.html#L-${claim.code.line}` }, `${claim.code.path}:${claim.code.line}`));
    const made = make("div", { class: "about" }, make("p", {}, claim.what), claim.parts.length ? strips(claim.parts, width) : null, facts, make("p", {}, ...links));
    if (claim.code) made.append(make("details", {}, make("summary", {}, T.code), make("pre", {}, make("code", {}, claim.code.text))));
    return made;
  }

  const format = (x) => x === null ? "" : Number.isInteger(x) && Math.abs(x) < 1e6 ? String(x) : Math.abs(x) >= 1e6 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(Number(x.toPrecision(4)));

  function strips(parts, room) {
    const space = "http://www.w3.org/2000/svg", width = Math.max(260, Math.min(room - 12, 700)), narrow = width < 520;
    const line = narrow ? 18 : 0, height = 62 + line, left = 8, right = width - 8;
    const draw = (tag, attributes, text) => {
      const node = document.createElementNS(space, tag);
      for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      return node;
    };
    const svg = draw("svg", { viewBox: `0 0 ${width} ${parts.length * height}`, width, height: parts.length * height, role: "img", "aria-label": T.legend });
    parts.forEach((part, n) => {
      const known = [...part.seeds, part.middle, part.paper, ...(part.interval || []), ...part.bound].filter((x) => x !== null);
      if (!known.length) return;
      let low = Math.min(...known), high = Math.max(...known);
      const pad = (high - low || Math.abs(high) || 1) * 0.12;
      low -= pad; high += pad;
      const x = (value) => left + ((value - low) / (high - low)) * (right - left), top = n * height, y = top + 36 + line;
      const [from, to] = part.bound;
      const a = from === null ? left : x(from), b = to === null ? right : x(to);
      svg.append(draw("rect", { class: "region", x: a, y: y - 12, width: Math.max(b - a, 2), height: 24 }));
      for (const end of [from, to]) if (end !== null) svg.append(draw("line", { class: "bound", x1: x(end), x2: x(end), y1: y - 12, y2: y + 12 }));
      svg.append(draw("line", { class: "axis", x1: left, x2: right, y1: y, y2: y }));
      if (part.interval && part.interval[0] !== null && part.interval[1] !== null) svg.append(draw("line", { class: "interval", x1: x(part.interval[0]), x2: x(part.interval[1]), y1: y, y2: y }));
      for (const seed of part.seeds) if (seed !== null) {
        const tick = draw("line", { class: "seed", x1: x(seed), x2: x(seed), y1: y - 7, y2: y + 7 });
        tick.append(draw("title", {}, format(seed)));
        svg.append(tick);
      }
      if (part.middle !== null) svg.append(draw("circle", { class: "mean", cx: x(part.middle), cy: y, r: 4.5 }));
      if (part.paper !== null) { const p = x(part.paper); svg.append(draw("path", { class: "theirs", d: `M${p} ${y - 7}l7 7l-7 7l-7 -7z` })); }
      const ends = [from !== null && `≥ ${format(from)}`, to !== null && `≤ ${format(to)}`].filter(Boolean).join(", ");
      svg.append(draw("text", { x: left, y: top + 16 }, [part.name, part.unit && (part.name ? `(${part.unit})` : part.unit)].filter(Boolean).join(" ")),
        draw("text", narrow ? { class: "dim", x: left, y: top + 32 } : { class: "dim", x: right, y: top + 16, "text-anchor": "end" }, [`${T.seed} ${format(part.middle)}`, ends, part.paper !== null && `${T.says} ${format(part.paper)}`].filter(Boolean).join(" · ")));
    });
    return make("figure", { class: "strip" }, svg, make("figcaption", { class: "count" }, T.legend));
  }

  /* ---- search ---- */
  function search(root) {
    const rows = [...window.SECTIONS, ...window.CLAIMS.map((c) => [`claims.html#${c.id}`, T.claim, c.title, `${c.what} ${c.id}`])]
      .map(([address, page, title, text]) => ({ address, page, title, text, low: `${title} ${text}`.toLowerCase(), head: `${page} ${title}`.toLowerCase() }));
    const field = make("input", { type: "search", name: "q", placeholder: T.typing, "aria-label": T.typing });
    const count = make("p", { class: "count", "aria-live": "polite" }), list = make("div");
    root.append(make("form", { class: "tools", onsubmit: (event) => event.preventDefault() }, field), count, list);

    function pieces(query) {
      const words = query.toLowerCase().split(/\s+/).filter(Boolean);
      const strict = rows.filter(({ low, page }) => words.every((each) => low.includes(each) || page.toLowerCase().includes(each)));
      if (strict.length || !/[\u4e00-\u9fff]{3}/.test(query)) return [words, strict];
      /* Chinese is written without spaces: where the whole is nowhere, pairs of characters stand for words */
      const pairs = words.flatMap((each) => /[\u4e00-\u9fff]{2}/.test(each) ? [...each].slice(0, -1).map((c, n) => c + [...each][n + 1]) : [each]);
      return [pairs, rows.filter(({ low }) => pairs.filter((pair) => low.includes(pair)).length > pairs.length / 2)];
    }

    function run() {
      const query = field.value.trim();
      if (!query) { list.replaceChildren(); count.textContent = ""; return; }
      const [words, found] = pieces(query);
      const score = (entry) => words.reduce((sum, each) => sum + (entry.title.toLowerCase().includes(each) ? 20 : 0) + (entry.head.includes(each) ? 5 : 0) + Math.min(entry.low.split(each).length - 1, 6), 0);
      const best = found.map((entry) => [score(entry), entry]).sort((a, b) => b[0] - a[0]).slice(0, 60);
      count.textContent = found.length ? `${found.length} ${T.hits}` : T.nothing;
      list.replaceChildren(...best.map(([, entry]) => make("div", { class: "hit" }, make("a", { href: entry.address }, entry.title),
        make("span", { class: "of" }, entry.page === entry.title ? "" : ` · ${entry.page}`), excerpt(entry.text, words))));
    }

    function excerpt(text, words) {
      const low = text.toLowerCase();
      const at = Math.max(0, Math.min(...words.map((each) => low.indexOf(each)).filter((n) => n >= 0).concat([low.length])) - 60);
      const cut = text.slice(at >= text.length ? 0 : at, (at >= text.length ? 0 : at) + 220);
      const node = make("p", {}, at && at < text.length ? "… " : "");
      const pattern = new RegExp(`(${words.map((each) => each.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
      cut.split(pattern).forEach((piece, n) => node.append(n % 2 ? make("mark", {}, piece) : piece));
      return node;
    }
    field.value = new URLSearchParams(location.search).get("q") || "";
    field.addEventListener("input", run);
    run();
    field.focus();
  }

  /* ---- filters of questions and terms ---- */
  function filtered(root) {
    const entries = [...root.querySelectorAll("details.question, tbody tr")];
    const field = make("input", { type: "search", placeholder: T.filter, "aria-label": T.filter });
    const count = make("p", { class: "count", "aria-live": "polite" });
    root.prepend(make("div", { class: "tools" }, field), count);
    const texts = entries.map((entry) => entry.textContent.toLowerCase());
    const apply = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      entries.forEach((entry, n) => { entry.hidden = !words.every((each) => texts[n].includes(each)); shown += !entry.hidden; });
      for (const head of root.querySelectorAll("h2.questions-of")) {
        let next = head.nextElementSibling, some = false;
        for (; next && next.tagName !== "H2"; next = next.nextElementSibling) some ||= next.matches("details.question") && !next.hidden;
        head.hidden = !some;
      }
      count.textContent = `${shown} / ${entries.length}`;
    };
    field.addEventListener("input", apply);
    apply();
    const open = () => {
      const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target && target.matches("details.question")) { target.open = true; target.scrollIntoView(); }
    };
    window.addEventListener("hashchange", open);
    open();
  }

  /* ---- calculator ---- */
  function calculator(root) {
    const C = zh
      ? { preset: "预设", L: "层数 L", d: "宽度 d", h: "头数 h", g: "键值头数 g", V: "词表 V", T: "上下文 T", B: "批大小 B", D: "训练词元 D（十亿）", bytes: "每个数的字节", own: "自定" }
      : { preset: "Preset", L: "Layers L", d: "Width d", h: "Heads h", g: "Key-value heads g", V: "Vocabulary V", T: "Context T", B: "Batch B", D: "Training tokens D (10⁹)", bytes: "Bytes per number", own: "your own" };
    const O = zh
      ? [["blocks", "各层参数", "12 L d²"], ["all", "加上词嵌入", "N = 12 L d² + V d"], ["train", "训练运算量", "6 N D"], ["forward", "每词元前向", "2 N"], ["attention", "其中之外的注意力，一条序列前向", "4 L T² d，因果减半"], ["share", "注意力与矩阵乘之比", "T / 6d"], ["mha", "KV 缓存，MHA", "2 L B T d × 字节"], ["gqa", "KV 缓存，GQA", "× g / h"], ["mqa", "KV 缓存，MQA", "× 1 / h"], ["adam", "Adam 混合精度训练状态", "16 N 字节"], ["adam32", "其中 Adam 的两个矩", "8 N 字节"], ["weights", "权重", "N × 字节"]]
      : [["blocks", "Parameters of the layers", "12 L d²"], ["all", "with the embedding", "N = 12 L d² + V d"], ["train", "Operations of training", "6 N D"], ["forward", "Forward pass, per token", "2 N"], ["attention", "Attention on top, one sequence forward", "4 L T² d, half of it if causal"], ["share", "Attention over matrix products", "T / 6d"], ["mha", "KV cache, MHA", "2 L B T d × bytes"], ["gqa", "KV cache, GQA", "× g / h"], ["mqa", "KV cache, MQA", "× 1 / h"], ["adam", "Training state with Adam, mixed precision", "16 N bytes"], ["adam32", "of which Adam's two moments", "8 N bytes"], ["weights", "Weights", "N × bytes"]];
    const presets = { "GPT-2 small": [12, 768, 12, 12, 50257, 1024, 1, 10, 2], "BERT-base": [12, 768, 12, 12, 30522, 512, 1, 137, 2], "GPT-3": [96, 12288, 96, 96, 50257, 2048, 1, 300, 2], "32 × 4096, g = 8": [32, 4096, 32, 8, 128256, 8192, 1, 2000, 2] };
    const keys = ["L", "d", "h", "g", "V", "T", "B", "D", "bytes"];
    const fields = Object.fromEntries(keys.map((key) => [key, make("input", { type: "number", min: key === "D" ? "0" : "1", step: "any", name: key, oninput: run })]));
    const preset = select("preset", [...Object.keys(presets).map((name) => [name, name])], () => { keys.forEach((key, n) => { fields[key].value = presets[preset.value][n]; }); run(); });
    const outputs = make("dl");
    root.append(make("div", { class: "inputs" }, make("label", {}, C.preset, preset), ...keys.map((key) => make("label", {}, C[key], fields[key]))), outputs);
    const scaled = (x, unit) => {
      const steps = [[1e24, "Y"], [1e21, "Z"], [1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
      const [size, name] = steps.find(([limit]) => x >= limit) || [1, ""];
      return `${Number((x / size).toPrecision(4))} ${name}${unit}`.trim();
    };
    function run() {
      const { L, d, h, g, V, T: t, B, D, bytes } = Object.fromEntries(keys.map((key) => [key, Number(fields[key].value)]));
      const blocks = 12 * L * d * d, all = blocks + V * d, cache = 2 * L * B * t * d * bytes;
      const values = { blocks: scaled(blocks, ""), all: scaled(all, ""), train: scaled(6 * all * D * 1e9, "FLOP"), forward: scaled(2 * all, "FLOP"),
        attention: scaled(4 * L * t * t * d, "FLOP"), share: String(Number((t / (6 * d)).toPrecision(3))), mha: scaled(cache, "B"), gqa: scaled((cache * g) / h, "B"),
        mqa: scaled(cache / h, "B"), adam: scaled(16 * all, "B"), adam32: scaled(8 * all, "B"), weights: scaled(all * bytes, "B") };
      outputs.replaceChildren(...O.flatMap(([key, name, formula]) => [make("dt", {}, name, make("small", {}, formula)), make("dd", { id: `out-${key}` }, values[key])]));
    }
    preset.value = "GPT-2 small";
    preset.dispatchEvent(new Event("change"));
  }

  /* ---- everywhere ---- */
  const start = (id, what) => { const root = document.getElementById(id); if (root) what(root); };
  start("claims-tool", explorer);
  start("search-tool", search);
  start("calculator-tool", calculator);
  document.querySelectorAll(".filtered").forEach(filtered);
  for (const link of document.querySelectorAll("a.language-switch")) {
    link.addEventListener("click", () => { if (document.querySelector("#claims-tool, #search-tool, .filtered")) link.href = link.href.split(/[?#]/)[0] + location.search + location.hash; });
  }
})();
