// The timeline: emotions as blocks, their fades and strength keys, the clip's sound, and curves whose points can be dragged.
// It changes a copy of the keys and corrections, and hands the whole back (`change`); Python checks and keeps it.

const RULER = 22, SOUND = 40, ROW = 40, CURVES = 112, NEAR = 7, COLUMN = 2; // pixels
const MOST_FACTOR = 2; // of a strength key, at the top of a block
const copy = (value) => JSON.parse(JSON.stringify(value));
const within = (value, low, high) => Math.min(high, Math.max(low, value));

export default {
  template: `
<section class="timeline" ref="root" aria-label="Timeline" @keydown="onKey">
  <div class="tl-bar" role="toolbar" aria-label="Timeline tools">
    <button class="tl-clock" @click="countFrames = !countFrames" :aria-label="label(time) + ', counted in ' + (countFrames ? 'frames' : 'timecode')" title="Timecode or frames">{{ label(time) }}</button>
    <button @click="togglePlay" :aria-pressed="playing" title="Play with sound (Space)">{{ playing ? '❚❚' : '►' }}<span class="tl-sr">Play</span></button>
    <span class="tl-gap"></span>
    <button @click="split" :disabled="selected === null" title="Split at the playhead (S)">Split</button>
    <button @click="duplicate" :disabled="selected === null" title="Copy behind itself (D)">Copy</button>
    <button @click="addKey" :disabled="selected === null" title="Strength key at the playhead (K)">Key</button>
    <button @click="remove" :disabled="selected === null" title="Remove (Delete)">Remove</button>
    <span class="tl-gap"></span>
    <button @click="$emit('undo')" :disabled="!can_undo" title="Undo (Ctrl+Z)">Undo</button>
    <button @click="$emit('redo')" :disabled="!can_redo" title="Redo (Ctrl+Shift+Z)">Redo</button>
    <span class="tl-gap"></span>
    <label class="tl-check" title="To words, cuts, the playhead and other blocks; without it to frames"><input type="checkbox" v-model="snapping"> Snap</label>
    <label v-if="names.length">Curve <select v-model="curve" aria-label="Curve to correct">
      <option v-for="name in names" :key="name">{{ name }}</option></select></label>
    <span class="tl-rest"></span>
    <button @click="zoom(0.5)" title="Zoom out (-)">−<span class="tl-sr">Zoom out</span></button>
    <button @click="fit" title="Whole clip (0)">Fit</button>
    <button @click="zoom(2)" title="Zoom in (+)">+<span class="tl-sr">Zoom in</span></button>
  </div>
  <div class="tl-scroll">
  <div class="tl-body" ref="body" @wheel="wheel" @dragover.prevent @drop.prevent="dropped">
    <canvas ref="sound" class="tl-canvas" :style="{height: soundHeight + 'px'}" @pointerdown="scrubDown"
      role="slider" tabindex="0" aria-label="Playhead" aria-valuemin="0" :aria-valuemax="duration" :aria-valuenow="time" :aria-valuetext="label(time)"></canvas>
    <div v-for="(lane, n) in shownLanes" :key="n" class="tl-lane" :style="{height: lane.rows * 40 + 'px'}" @pointerdown.self="laneDown">
      <span v-if="shownLanes.length > 1" class="tl-who">{{ lane.label }}</span>
      <span v-else-if="!keys.length" class="tl-hint">Choose an emotion on the left, or drag it here; a recording of a voice can be dropped here too.</span>
      <div v-for="b in lane.blocks" :key="b.index" class="tl-block" :class="{chosen: b.index === selected}" :style="boxOf(b)"
        role="button" tabindex="0" :aria-pressed="b.index === selected" :aria-label="spoken(keys[b.index])"
        @pointerdown="blockDown($event, b.index, 'move')" @focus="choose(b.index)" @dblclick="addKeyAt($event, b.index)">
        <svg class="tl-shape" preserveAspectRatio="none" viewBox="0 0 100 100" aria-hidden="true"><polygon :points="fades(keys[b.index])"/></svg>
        <svg class="tl-line" aria-hidden="true"><polyline :points="line(keys[b.index])"/></svg>
        <span class="tl-name" :style="{left: Math.max(12, 12 - x(keys[b.index].start)) + 'px'}">{{ keys[b.index].emotion }} {{ short(keys[b.index].strength) }}</span>
        <template v-if="b.index === selected">
          <i class="tl-end tl-left" @pointerdown.stop="blockDown($event, b.index, 'start')"></i>
          <i class="tl-end tl-right" @pointerdown.stop="blockDown($event, b.index, 'end')"></i>
          <i class="tl-fade" :style="{left: px(keys[b.index].ease_in) + 'px'}" title="Fade in" @pointerdown.stop="blockDown($event, b.index, 'ease_in')"></i>
          <i class="tl-fade" :style="{right: px(keys[b.index].ease_out) + 'px'}" title="Fade out" @pointerdown.stop="blockDown($event, b.index, 'ease_out')"></i>
          <i v-for="(k, i) in keys[b.index].strength_keys" :key="i" class="tl-key" :style="keyAt(k)" :title="'Strength × ' + short(k[1])"
            @pointerdown.stop="blockDown($event, b.index, 'key', i)" @dblclick.stop="removeKey(b.index, i)"></i>
        </template>
      </div>
    </div>
    <div class="tl-curves" :style="{height: curvesHeight + 'px'}">
      <canvas ref="curves" class="tl-canvas" @pointerdown="curveDown"></canvas>
      <i v-for="p in points" :key="p.index" class="tl-point" :style="{left: x(p.time) + 'px', top: y(p.value) + 'px'}" role="button" tabindex="0"
        :aria-label="p.name + ' corrected to ' + short(p.value) + ' at ' + label(p.time)" @pointerdown.stop="pointDown($event, p.index)"
        @dblclick.stop="dropPoint(p.index)" @keydown.delete.stop.prevent="dropPoint(p.index)" @keydown.up.stop.prevent="liftPoint(p.index, 0.02)" @keydown.down.stop.prevent="liftPoint(p.index, -0.02)"></i>
    </div>
    <div class="tl-head" :style="{transform: 'translateX(' + x(time) + 'px)'}" aria-hidden="true"></div>
  </div></div>
</section>`,
  props: {
    duration: Number, fps: Number, timecode: String, blocks: Array, corrections: Array, lanes: Array, drawn: Number, chosen: Object, answered: Number, person: String,
    can_undo: Boolean, can_redo: Boolean, revision: Number, draft: Number, full: Number, ready: Boolean, at: Number,
  },
  emits: ["change", "select", "scrub", "undo", "redo", "add", "voice"],
  data: () => ({
    keys: [], fixes: [], selected: null, time: 0, begin: 0, scale: 100, width: 800, snapping: true, curve: "", playing: false, drag: null, sent: 0, curve_data: {}, countFrames: localStorage.cmetFrames === "1",
    soundHeight: RULER + SOUND, curvesHeight: CURVES,
  }),
  computed: {
    names() { return Object.keys(this.curve_data.edited || {}); },
    points() { return this.fixes.map(parsed).map((p, index) => ({...p, index})).filter((p) => p.name === this.curve && p.person === (this.person ?? null)); },
    shownLanes() {
      return this.lanes.map((lane) => {
        const blocks = [], ends = [];
        this.keys.map((key, index) => ({key, index})).filter(({key}) => (key.person ?? null) === lane.person)
          .sort((a, b) => a.key.start - b.key.start).forEach(({key, index}) => {
            let row = ends.findIndex((end) => end <= key.start + 1e-6);
            if (row < 0) row = ends.length;
            ends[row] = this.endOf(key);
            blocks.push({index, row});
          });
        return {...lane, blocks, rows: Math.max(1, ends.length)};
      });
    },
  },
  watch: {
    blocks() { this.take(); }, corrections() { this.take(); }, answered() { this.take(); },
    chosen(value, before) { if (value.number !== before.number) { this.selected = value.index; this.$emit("select", value.index); } },
    drawn() { this.fetchCurves(); }, countFrames(value) { localStorage.cmetFrames = value ? "1" : "0"; this.draw(); },
    curve() { this.draw(); }, revision() { this.show(); }, ready() { this.show(); },
    duration() { this.time = 0; this.fit(); this.show(); },
  },
  mounted() {
    this.take();
    this.selected = this.chosen.index;
    this.time = this.at;
    this.fetchCurves();
    this.refocused = new MutationObserver(refocus);
    this.refocused.observe(document.querySelector(".studio"), {childList: true, subtree: true});
    this.resized = new ResizeObserver(() => { const was = this.width; this.width = this.$refs.body.clientWidth; if (was !== this.width) this.fit(); });
    this.resized.observe(this.$refs.body);
    this.width = this.$refs.body.clientWidth;
    this.fit();
    this.globalKey = (event) => { if (!/^(INPUT|TEXTAREA|SELECT|VIDEO)$/.test(event.target.tagName) && !event.target.isContentEditable && !document.querySelector(".q-dialog")) this.onKey(event); };
    window.addEventListener("keydown", this.globalKey);
    this.stage = document.getElementById("stage");
    if (this.stage) { this.modes = new MutationObserver(() => this.show()); this.modes.observe(this.stage, {attributes: true, attributeFilter: ["class"]}); }
    this.theme = new MutationObserver(() => this.draw());
    this.theme.observe(document.body, {attributes: true, attributeFilter: ["class"]});
    this.show();
  },
  unmounted() {
    window.removeEventListener("keydown", this.globalKey);
    [this.resized, this.modes, this.theme, this.refocused].forEach((observer) => observer && observer.disconnect());
  },
  methods: {
    // what Python holds, once it has answered the last change that was sent
    take() { if (!this.drag && this.answered >= this.sent) { this.keys = copy(this.blocks); this.fixes = copy(this.corrections); } },
    x(time) { return (time - this.begin) * this.scale; },
    px(seconds) { return seconds * this.scale; },
    y(value) { return 8 + (1 - value) * (CURVES - 16); },
    timeAt(event) { return this.begin + (event.clientX - this.$refs.body.getBoundingClientRect().left) / this.scale; },
    onFrame(time) { return within(Math.round(time * this.fps) / this.fps, 0, this.duration); },
    endOf(key) { return key.end === null || key.end === undefined ? this.duration : Math.min(key.end, this.duration); },
    short(value) { return String(Math.round(value * 100) / 100); },
    label(time) { return this.countFrames ? String(Math.round(time * this.fps)) : timecodeOf(Math.round(time * this.fps), Math.round(this.fps), this.timecode || ""); },
    async fetchCurves() {
      const asked = this.drawn, answer = asked < 0 ? {} : await fetch("/curves?revision=" + asked).then((r) => (r.ok ? r.json() : {}), () => ({}));
      if (asked !== this.drawn) return;
      this.curve_data = Object.freeze(answer);
      if (!this.names.includes(this.curve)) this.curve = this.names[0] || "";
      this.draw();
    },
    spoken(key) { return `${key.emotion}, strength ${this.short(key.strength)}, from ${this.label(key.start)} to ${this.label(this.endOf(key))}`; },
    boxOf(b) { const key = this.keys[b.index]; return {left: this.x(key.start) + "px", width: Math.max(6, this.px(this.endOf(key) - key.start)) + "px", top: b.row * ROW + 3 + "px"}; },
    fades(key) {
      const length = Math.max(this.endOf(key) - key.start, 1e-6);
      const shrink = Math.min(1, length / Math.max(key.ease_in + key.ease_out, 1e-6));
      const a = key.start > 0 ? (100 * key.ease_in * shrink) / length : 0, b = this.endOf(key) < this.duration ? (100 * key.ease_out * shrink) / length : 0;
      return `0,100 ${a},0 ${100 - b},0 100,100`;
    },
    keyAt(k) { return {left: this.px(k[0]) + "px", top: (1 - Math.min(k[1], MOST_FACTOR) / MOST_FACTOR) * 100 + "%"}; },
    line(key) {
      const high = ROW - 6, at = (k) => `${this.px(k[0])},${(1 - Math.min(k[1], MOST_FACTOR) / MOST_FACTOR) * high}`, ks = key.strength_keys || [];
      if (!ks.length) return "";
      return [at([0, ks[0][1]]), ...ks.map(at), at([this.endOf(key) - key.start, ks[ks.length - 1][1]])].join(" ");
    },
    snap(time, but) {
      const free = this.onFrame(time);
      if (!this.snapping) return free;
      const data = this.curve_data, edges = [0, this.duration, this.time, ...(data.cuts || []), ...(data.speech || []).flat(), ...(data.words || [])];
      this.keys.forEach((key, index) => { if (index !== but) edges.push(key.start, this.endOf(key)); });
      const best = edges.reduce((a, b) => (Math.abs(b - time) < Math.abs(a - time) ? b : a));
      return Math.abs(best - time) * this.scale < NEAR ? this.onFrame(best) : free;
    },
    changed() { this.sent += 1; this.$emit("change", {keys: copy(this.keys), corrections: copy(this.fixes), number: this.sent}); this.draw(); },
    choose(index) { if (index !== this.selected) { this.selected = index; this.$emit("select", index); } },
    follow(event, move, up) {
      event.preventDefault();
      const end = () => { window.removeEventListener("pointermove", move); window.removeEventListener("pointerup", end); window.removeEventListener("pointercancel", end); up(); };
      window.addEventListener("pointermove", move); window.addEventListener("pointerup", end); window.addEventListener("pointercancel", end);
    },
    blockDown(event, index, kind, which) {
      if (event.button) return;
      event.stopPropagation();
      event.currentTarget.closest(".tl-block").focus({preventScroll: true});
      this.choose(index);
      const from = this.timeAt(event), was = copy(this.keys[index]), end = this.endOf(was), top = event.clientY;
      this.drag = {moved: false};
      this.follow(event, (e) => {
        const by = this.timeAt(e) - from, key = this.keys[index], frame = 1 / this.fps;
        if (Math.abs(e.clientX - event.clientX) + Math.abs(e.clientY - top) > 2) this.drag.moved = true;
        if (!this.drag.moved) return;
        if (kind === "move") {
          const start = within(this.snap(was.start + by, index), 0, this.duration - (end - was.start)), ends = this.snap(end + by, index) - (end - was.start);
          key.start = Math.abs(start - was.start - by) <= Math.abs(ends - was.start - by) ? start : within(ends, 0, this.duration - (end - was.start));
          key.end = Math.min(this.duration, key.start + end - was.start);
        } else if (kind === "start") key.start = within(this.snap(was.start + by, index), 0, end - frame);
        else if (kind === "end") key.end = within(this.snap(end + by, index), was.start + frame, this.duration);
        else if (kind === "ease_in") key.ease_in = within(was.ease_in + by, 0, end - was.start);
        else if (kind === "ease_out") key.ease_out = within(was.ease_out - by, 0, end - was.start);
        else {
          const ks = was.strength_keys, low = which ? ks[which - 1][0] + frame : 0, high = which + 1 < ks.length ? ks[which + 1][0] - frame : end - was.start;
          key.strength_keys[which] = [within(ks[which][0] + by, low, high), within(ks[which][1] - ((e.clientY - top) / (ROW - 6)) * MOST_FACTOR, 0, MOST_FACTOR)];
        }
      }, () => { const moved = this.drag.moved; this.drag = null; moved ? this.changed() : this.take(); });
    },
    laneDown(event) { this.choose(null); this.scrubDown(event); },
    scrubDown(event) {
      if (event.button) return;
      this.pause();
      this.seek(this.timeAt(event));
      this.follow(event, (e) => this.seek(this.timeAt(e)), () => this.$emit("scrub", this.time));
    },
    seek(time) { this.time = within(this.onFrame(time), 0, Math.max(0, this.duration - 1 / this.fps)); this.show(); },
    step(frames) { this.pause(); this.seek(this.time + frames / this.fps); this.reveal(); this.$emit("scrub", this.time); },
    reveal() { const span = this.width / this.scale; if (this.time < this.begin || this.time > this.begin + span) { this.begin = within(this.time - span / 2, 0, Math.max(0, this.duration - span)); this.draw(); } },
    split() {
      const key = this.keys[this.selected];
      if (!key || this.time <= key.start || this.time >= this.endOf(key)) return;
      const second = {...copy(key), start: this.time, ease_in: 0}, at = this.time - key.start, ks = key.strength_keys || [];
      key.end = this.time; key.ease_out = 0;
      if (ks.length) {
        const here = [at, this.factor(ks, at)];
        key.strength_keys = [...ks.filter((k) => k[0] < at), here];
        second.strength_keys = [[0, here[1]], ...ks.filter((k) => k[0] > at).map((k) => [k[0] - at, k[1]])];
      }
      this.keys.push(second);
      this.changed();
    },
    factor(ks, at) {
      if (!ks.length || at <= ks[0][0]) return ks.length ? ks[0][1] : 1;
      const after = ks.findIndex((k) => k[0] >= at);
      if (after < 0) return ks[ks.length - 1][1];
      const [a, b] = [ks[after - 1], ks[after]];
      return a[1] + ((b[1] - a[1]) * (at - a[0])) / (b[0] - a[0]);
    },
    duplicate() {
      const key = this.keys[this.selected];
      if (!key) return;
      const length = this.endOf(key) - key.start, start = Math.max(0, Math.min(this.endOf(key), this.duration - length));
      this.keys.push({...copy(key), start, end: start + length});
      this.changed();
      this.choose(this.keys.length - 1);
    },
    remove() { if (this.selected === null) return; this.keys.splice(this.selected, 1); this.choose(null); this.changed(); },
    addKey() { const key = this.keys[this.selected]; if (key && this.time >= key.start && this.time <= this.endOf(key)) this.putKey(key, this.time - key.start); },
    addKeyAt(event, index) { const key = this.keys[index]; this.putKey(key, within(this.onFrame(this.timeAt(event)) - key.start, 0, this.endOf(key) - key.start), (1 - within(event.offsetY / (ROW - 6), 0, 1)) * MOST_FACTOR); },
    putKey(key, at, factor) {
      const ks = (key.strength_keys || []).filter((k) => Math.abs(k[0] - at) > 0.5 / this.fps);
      key.strength_keys = [...ks, [at, factor ?? this.factor(key.strength_keys || [], at)]].sort((a, b) => a[0] - b[0]);
      this.changed();
    },
    removeKey(index, which) { this.keys[index].strength_keys.splice(which, 1); this.changed(); },
    dropped(event) {
      const emotion = event.dataTransfer.getData("text/emotion"), start = this.onFrame(this.timeAt(event));
      if (emotion) this.$emit("add", {emotion, start});
      else if (event.dataTransfer.files.length) this.sendVoice(event.dataTransfer.files[0], start);
    },
    sendVoice(file, start) {
      const input = document.querySelector(".voice-upload input[type=file]"), list = new DataTransfer();
      this.$emit("voice", start);
      list.items.add(file);
      if (input) { input.files = list.files; input.dispatchEvent(new Event("change", {bubbles: true})); }
    },
    curveDown(event) {
      if (event.button || !this.curve) return;
      const rect = this.$refs.curves.getBoundingClientRect(), value = (e) => within(1 - (e.clientY - rect.top - 8) / (CURVES - 16), 0, 1);
      this.drag = {};
      this.fixes.push(written({name: this.curve, value: value(event), time: this.onFrame(this.timeAt(event)), reach: 0.2, person: this.person ?? null}));
      this.movePoint(event, this.fixes.length - 1, value);
    },
    pointDown(event, index) {
      const rect = this.$refs.curves.getBoundingClientRect();
      event.currentTarget.focus();
      this.drag = {};
      this.movePoint(event, index, (e) => within(1 - (e.clientY - rect.top - 8) / (CURVES - 16), 0, 1));
    },
    movePoint(event, index, value) {
      const was = this.corrections[index];
      this.follow(event, (e) => { this.fixes[index] = written({...parsed(this.fixes[index]), value: value(e)}); }, () => { this.drag = null; this.fixes[index] === was ? this.take() : this.changed(); });
    },
    liftPoint(index, by) { const p = parsed(this.fixes[index]); this.fixes[index] = written({...p, value: within(p.value + by, 0, 1)}); this.changed(); },
    addPoint() {
      const data = this.curve_data, edited = (data.edited || {})[this.curve], n = edited ? data.times.findIndex((t) => t >= this.time - 0.5 / this.fps) : -1;
      if (n < 0) return;
      this.fixes.push(written({name: this.curve, value: within(edited[n], 0, 1), time: this.time, reach: 0.2, person: this.person ?? null}));
      this.changed();
    },
    dropPoint(index) { this.fixes.splice(index, 1); this.changed(); },
    zoom(by, about) {
      const at = about ?? (this.time >= this.begin && this.x(this.time) <= this.width ? this.time : this.begin + this.width / this.scale / 2), pixel = this.x(at);
      this.scale = within(this.scale * by, this.width / Math.max(this.duration, 0.1), 40 * this.fps);
      this.begin = within(at - pixel / this.scale, 0, Math.max(0, this.duration - this.width / this.scale));
      this.draw();
    },
    fit() { this.begin = 0; this.scale = this.width / Math.max(this.duration, 0.1); this.draw(); },
    wheel(event) {
      if (event.ctrlKey || event.metaKey) { event.preventDefault(); this.zoom(event.deltaY < 0 ? 1.25 : 0.8, this.timeAt(event)); return; }
      const by = event.shiftKey ? event.deltaY : event.deltaX;
      if (!by) return;
      event.preventDefault();
      this.begin = within(this.begin + by / this.scale, 0, Math.max(0, this.duration - this.width / this.scale));
      this.draw();
    },
    onKey(event) {
      if (event.handled || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
      event.handled = true;
      const control = event.ctrlKey || event.metaKey, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const onButton = /^(BUTTON|A)$/.test(event.target.tagName) || event.target.closest("[role=tab],[role=button]:not(.tl-block):not(.tl-point)");
      if (control && key === "z") { this.$emit(event.shiftKey ? "redo" : "undo"); event.preventDefault(); return; }
      if (control) return;
      if (event.altKey && this.selected !== null && /^Arrow(Left|Right)$/.test(key)) { this.nudge(key === "ArrowLeft" ? -1 : 1, event.shiftKey); event.preventDefault(); return; }
      if (event.altKey && this.selected !== null && /^Arrow(Up|Down)$/.test(key)) { this.lift(key === "ArrowUp" ? 0.1 : -0.1); event.preventDefault(); return; }
      if (event.altKey || (onButton && (key === " " || key === "Enter"))) return;
      const many = event.shiftKey ? Math.round(this.fps) : 1;
      const actions = {
        " ": this.togglePlay, ArrowLeft: () => this.step(-many), ArrowRight: () => this.step(many), Home: () => this.step(-1e9), End: () => this.step(1e9),
        s: this.split, d: this.duplicate, k: this.addKey, c: this.addPoint, Delete: this.remove, Backspace: this.remove, Escape: () => this.choose(null),
        "+": () => this.zoom(2), "=": () => this.zoom(2), "-": () => this.zoom(0.5), 0: this.fit,
      };
      if (/^[1-6]$/.test(key)) { document.querySelectorAll(".segments .push")[key - 1]?.click(); return; }
      if (actions[key]) { actions[key](); event.preventDefault(); }
    },
    lift(by) { const key = this.keys[this.selected]; key.strength = +within(key.strength + by, -1.5, 2).toFixed(2); this.changed(); },
    nudge(frames, stretch) {
      const key = this.keys[this.selected], by = frames / this.fps, end = this.endOf(key);
      if (stretch) key.end = within(end + by, key.start + 1 / this.fps, this.duration);
      else { key.start = within(key.start + by, 0, this.duration - (end - key.start)); key.end = Math.min(this.duration, end + by); if (key.end <= key.start) key.end = key.start + 1 / this.fps; }
      this.changed();
    },
    togglePlay() { this.playing ? this.pause() : this.play(); },
    async play() {
      const sound = document.getElementById("sound");
      if (!sound || !this.duration) return;
      if (this.time >= this.duration - 2 / this.fps) this.time = 0;
      this.playing = true;
      sound.currentTime = this.time;
      try { await sound.play(); } catch { /* a clip that the browser cannot play is shown without sound */ }
      const from = performance.now() - this.time * 1000, tick = () => {
        if (!this.playing) return;
        this.time = within(sound.paused ? (performance.now() - from) / 1000 : sound.currentTime, 0, this.duration);
        this.reveal();
        this.show();
        if (this.time >= this.duration - 1 / this.fps) this.pause(); else requestAnimationFrame(tick);
      };
      requestAnimationFrame(tick);
    },
    pause() { if (!this.playing) return; this.playing = false; document.getElementById("sound")?.pause(); this.seek(this.time); this.$emit("scrub", this.time); },
    // Pictures: the newest moment that is asked for, small while the hand moves and full when it rests; one at a time for each.
    show() {
      if (!this.ready) return;
      clearTimeout(this.rest);
      const images = [...document.querySelectorAll("#stage img[data-view]")].filter((image) => image.offsetParent);
      images.forEach((image) => this.load(image, this.draft));
      if (!this.playing && this.full > this.draft) this.rest = setTimeout(() => images.forEach((image) => this.load(image, this.full)), 250);
    },
    load(image, size) {
      const moment = Math.round(this.time * this.fps), url = `/picture?view=${image.dataset.view}&time=${(moment / this.fps + 1e-3).toFixed(4)}&size=${size}&revision=${this.revision}`;
      if (image.busy) { image.wanted = url; return; }
      if (image.shown === url) return;
      const began = performance.now(), next = new Image();
      image.busy = true;
      const done = (good) => {
        image.busy = false;
        if (good) { image.src = url; image.shown = url; image.dataset.moment = moment; image.dataset.size = size; image.dataset.revision = this.revision; (window.cmetLatency ||= []).push(performance.now() - began); }
        if (image.wanted && image.wanted !== url) { image.wanted = null; this.load(image, size); }
      };
      next.onload = () => done(true);
      next.onerror = () => { done(false); clearTimeout(this.again); this.again = setTimeout(() => this.show(), 1500); };
      next.src = url;
    },
    draw() { cancelAnimationFrame(this.frame); this.frame = requestAnimationFrame(() => { if (this.$refs.sound) { this.drawSound(); this.drawCurves(); } }); },
    context(canvas, height) {
      const ratio = window.devicePixelRatio || 1, style = getComputedStyle(this.$refs.root);
      const wide = Math.round(this.width * ratio), high = Math.round(height * ratio), context = canvas.getContext("2d");
      if (canvas.width !== wide || canvas.height !== high) { canvas.width = wide; canvas.height = high; }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, this.width, height);
      context.globalAlpha = 1;
      return [context, (name) => style.getPropertyValue("--" + name).trim()];
    },
    // `this` is watched by Vue, so that reading it for every value would be slow
    drawSound() {
      const high = RULER + SOUND, [c, colour] = this.context(this.$refs.sound, high), data = this.curve_data, wave = data.waveform || [];
      const {begin, scale, width, duration} = this, x = (t) => (t - begin) * scale;
      const step = [1 / this.fps, 5 / this.fps, 0.5, 1, 2, 5, 10, 30, 60, 120].find((s) => s * scale > 90) || 300;
      const seen = (t) => x(t) >= -1 && x(t) <= width;
      c.fillStyle = colour("speech");
      (data.speech || []).forEach(([a, b]) => { if (x(b) >= 0 && x(a) <= width) c.fillRect(x(a), RULER, (b - a) * scale, SOUND); });
      c.fillStyle = colour("wave");
      const each = wave.length / duration;
      if (wave.length) for (let i = 0; i < width; i++) {
        const from = Math.floor((begin + i / scale) * each), to = Math.min(wave.length, Math.ceil((begin + (i + 1) / scale) * each));
        let loud = 0;
        for (let n = from; n < to; n++) if (wave[n] > loud) loud = wave[n];
        c.fillRect(i, RULER + (SOUND / 2) * (1 - loud), 1, Math.max(1, SOUND * loud));
      }
      c.fillStyle = c.strokeStyle = colour("ink-2"); c.font = "11px system-ui, sans-serif"; c.textBaseline = "middle";
      for (let t = Math.ceil(begin / step) * step; x(t) < width; t += step) { c.fillRect(x(t), RULER - 6, 1, 6); if (x(t) < width - 70) c.fillText(this.label(t), x(t) + 4, 10); }
      if (scale > 40) (data.words || []).filter(seen).forEach((t) => c.fillRect(x(t), high - 8, 1, 8));
      c.fillStyle = colour("cut");
      (data.cuts || []).filter(seen).forEach((t) => c.fillRect(x(t) - 1, 0, 2, high));
      c.fillStyle = colour("blink");
      (data.blinks || []).filter(seen).forEach((t) => { c.beginPath(); c.ellipse(x(t), high - 5, 5, 2.5, 0, 0, 7); c.fill(); });
    },
    drawCurves() {
      const [c, colour] = this.context(this.$refs.curves, CURVES), data = this.curve_data, times = data.times || [];
      const {begin, scale, width} = this, x = (t) => (t - begin) * scale, y = this.y;
      c.fillStyle = colour("ink-3");
      c.globalAlpha = 0.35;
      [0, 0.5, 1].forEach((v) => c.fillRect(0, y(v), width, 1));
      const first = Math.max(0, times.findIndex((t) => t >= begin) - 1), last = times.findIndex((t) => x(t) > width), end = last < 0 ? times.length : last + 1;
      const path = (values, ink, thick, dash) => {
        if (end - first > 2 * width) { c.fillStyle = ink; columns(times, values, first, end, x, (left, low, high) => c.fillRect(left, y(high), COLUMN, y(low) - y(high) + thick)); return; }
        c.beginPath(); c.setLineDash(dash); c.strokeStyle = ink; c.lineWidth = thick;
        for (let n = first; n < end; n++) c.lineTo(x(times[n]), y(values[n]));
        c.stroke();
      };
      this.names.filter((n) => n !== this.curve).forEach((n) => path(data.edited[n], colour("ink-3"), 1, []));
      c.globalAlpha = 1;
      if (this.curve && data.edited?.[this.curve]) { path(data.source[this.curve], colour("ink-2"), 1, [4, 3]); path(data.edited[this.curve], colour("accent"), 2, []); }
      c.setLineDash([]);
    },
  },
};

// Least and largest value of each column, of which a line through all values would be drawn slowly.
function columns(times, values, first, end, x, put) {
  for (let n = first, left = COLUMN * Math.floor(x(times[first]) / COLUMN); n < end; ) {
    let low = values[n], high = low, next = left;
    while (next === left && ++n < end) { next = COLUMN * Math.floor(x(times[n]) / COLUMN); low = Math.min(low, values[n]); high = Math.max(high, values[n]); }
    put(left, low, high);
    left = next;
  }
}

// SMPTE: of 29.97 and 59.94 frames a second with drop-frame (";") each minute but every tenth leaves out the first numbers
function timecodeOf(frame, rate, start) {
  const [, h, m, s, separator, f] = start.match(/^(\d+):(\d+):(\d+)([:;])(\d+)$/) || [0, 0, 0, 0, ":", 0];
  const left = separator === ";" ? rate / 15 : 0, minutes = +h * 60 + +m;
  let n = frame + (minutes * 60 + +s) * rate + +f - left * (minutes - Math.floor(minutes / 10));
  if (left) {
    const ten = rate * 600 - 9 * left, minute = rate * 60 - left, rest = n % ten;
    n += 9 * left * Math.floor(n / ten) + (rest >= rate * 60 ? left * (1 + Math.floor((rest - rate * 60) / minute)) : 0);
  }
  const seconds = Math.floor(n / rate), two = (value) => String(value).padStart(2, "0");
  return [Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60].map(two).join(":") + separator + two(n % rate);
}

// A panel that is built anew gives the focus back to the element of the same name.
let focused = null;
document.addEventListener("focusin", ({target}) => { focused = {target, place: target.closest("header, nav, aside"), name: nameOf(target)}; });
function nameOf(element) { return element.tagName + (element.getAttribute("aria-label") || element.textContent); }
function refocus() {
  if (!focused?.place || focused.target.isConnected || document.activeElement !== document.body) return;
  [...focused.place.querySelectorAll(focused.target.tagName)].find((element) => nameOf(element) === focused.name)?.focus({preventScroll: true});
}

function parsed(text) {
  const [, name, value, time, reach, person] = text.match(/^(\w+)=([\d.]+)@([\d.]+)(?:~([\d.]+))?(?:#(.+))?$/);
  return {name, value: +value, time: +time, reach: +(reach || 0.2), person: person ?? null};
}

function written(p) { return `${p.name}=${p.value.toFixed(3)}@${+p.time.toFixed(4)}~${p.reach}${p.person ? "#" + p.person : ""}`; }
