'use strict';
// The console's script: asks the admin routes what any tool could ask, and shows it.
// Whatever it shows becomes a text node; nothing is ever read as HTML.

const KEEP_ROWS = 200;          // decisions that stay on the page
const REPLAY_ROWS = 100;        // decisions that are asked for when following begins
const WAITING_MAX = 500;        // decisions that wait to be shown
const LOOK_EVERY_MS = 2000;     // how often /status and /metrics are asked for
const SHOW_EVERY_MS = 250;      // how often waiting decisions are shown
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 10000;
const ANSWER_WITHIN_MS = 5000;
const WINDOW_MS = 15000;        // what rates are of
const SHOWN_RELOADS = 12;
const USERS_KNOWN_MAX = 50;

const byId = id => document.getElementById(id);

/** An element with attributes and children; a child that is no node becomes text. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  fill(node, attributes, children);
  return node;
}

function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  fill(node, attributes, children);
  return node;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value === true ? '' : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

const setText = (id, text) => {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
};

/** Replaces the children of a list, unless they are the same: what has the focus keeps it, and nothing is read out twice. */
function setChildren(node, key, build) {
  const text = JSON.stringify(key);
  if (node.shownKey === text) return;
  const focused = node.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  node.shownKey = text;
  node.replaceChildren(...build());
  if (focused) for (const other of node.querySelectorAll('[data-key]')) if (other.dataset.key === focused) other.focus();
}

// --- Words and numbers ---

const two = number => String(number).padStart(2, '0');

function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? '' : `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function took(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  if (seconds < 0.001) return `${Math.max(1, Math.round(seconds * 1e6))} µs`;
  if (seconds < 0.01) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  return `${seconds.toFixed(1)} s`;
}

function ago(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const rate = value => value >= 100 ? String(Math.round(value)) : value.toFixed(1);
const count = value => value.toLocaleString('en');
const bytes = value => value >= 2 ** 30 ? `${(value / 2 ** 30).toFixed(1)} GiB` : `${Math.round(value / 2 ** 20)} MiB`;
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;

// --- /metrics ---

/** The samples of OpenMetrics text by name, each with labels and value. */
function parseMetrics(text) {
  const families = new Map();
  for (const line of text.split('\n')) {
    const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] || '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, escaped) => escaped === 'n' ? '\n' : escaped);
    }
    if (!families.has(match[1])) families.set(match[1], []);
    families.get(match[1]).push({ labels, value: Number(match[3]) });
  }
  return families;
}

const takes = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

function sum(metrics, name, wanted = {}) {
  let total = 0;
  for (const { labels, value } of metrics.get(name) || []) if (takes(labels, wanted)) total += value;
  return total;
}

/** A histogram's buckets, each with its upper bound in seconds and how many fell into it and none before. */
function histogram(metrics, name, wanted = {}) {
  const upTo = new Map();
  for (const { labels, value } of metrics.get(`${name}_bucket`) || []) {
    if (!takes(labels, wanted)) continue;
    const bound = labels.le === '+Inf' ? Infinity : Number(labels.le);
    upTo.set(bound, (upTo.get(bound) || 0) + value);
  }
  const buckets = [...upTo].sort(([one], [other]) => one - other).map(([bound, total]) => ({ bound, total }));
  return buckets.map(({ bound, total }, index) => ({ bound, count: total - (index ? buckets[index - 1].total : 0) }));
}

/** The upper bound of the bucket that holds the share: the truth is no more. */
function quantile(buckets, share) {
  const total = buckets.reduce((all, bucket) => all + bucket.count, 0);
  if (total === 0) return NaN;
  let seen = 0;
  for (const { bound, count: inside } of buckets) {
    seen += inside;
    if (seen >= total * share) return bound === Infinity ? NaN : bound;
  }
  return NaN;
}

function minus(now, before) {
  const earlier = new Map(before.map(({ bound, count: inside }) => [bound, inside]));
  return now.map(({ bound, count: inside }) => ({ bound, count: inside - (earlier.get(bound) || 0) }));
}

// --- What is known ---

const state = {
  status: undefined,
  metrics: undefined,
  ready: undefined,
  looks: [],                 // the last looks at the traffic, for rates
  startedAt: undefined,      // of the gate's process
  lastAnswer: undefined,     // when the gate last answered
  stale: false,
  paused: false,
  rows: new Map(),           // decision id -> what is on the page of it
  waiting: [],
  skipped: 0,
  users: new Set(),
};

let announcedAt = 0;

/** Read out by a screen reader; not more often than every few seconds. */
function announce(text) {
  if (Date.now() - announcedAt < 3000) return;
  announcedAt = Date.now();
  setText('announcement', text);
}

// --- Looking: /status, /metrics, /readyz ---

async function ask(path, options = {}) {
  return fetch(path, { cache: 'no-store', credentials: 'same-origin', signal: AbortSignal.timeout(ANSWER_WITHIN_MS), ...options });
}

let looking;   // the timer of the next look
let retryMs = RETRY_MIN_MS;

async function look() {
  clearTimeout(looking);
  try {
    const [status, metrics, ready] = await Promise.all([ask('/status'), ask('/metrics'), ask('/readyz')]);
    if (!status.ok || !metrics.ok) throw new Error('no answer');
    const [statusBody, metricsText, readyText] = await Promise.all([status.json(), metrics.text(), ready.text()]);
    answered();
    state.ready = ready.ok ? undefined : readyText.trim();
    learn(statusBody, parseMetrics(metricsText));
    retryMs = RETRY_MIN_MS;
  } catch {
    if (!document.hidden) unanswered();
    retryMs = Math.min(retryMs * 1.6, RETRY_MAX_MS);
  }
  if (!document.hidden) looking = setTimeout(look, state.stale ? retryMs : LOOK_EVERY_MS);
}

function answered() {
  state.lastAnswer = Date.now();
  if (state.stale) announce('The gate answers again.');
  state.stale = false;
  document.body.classList.remove('stale');
  showLink();
}

function unanswered() {
  if (!state.stale) announce('The gate does not answer. What is shown is old.');
  state.stale = true;
  document.body.classList.add('stale');
  showLink();
}

function showLink() {
  const link = byId('link');
  if (state.stale) {
    link.dataset.state = 'stale';
    setText('link-text', state.lastAnswer ? `no answer since ${clock(state.lastAnswer)}; trying again` : 'no answer; trying again');
  } else {
    link.dataset.state = following ? 'live' : 'waiting';
    setText('link-text', following ? 'live' : 'connecting');
  }
}

function learn(status, metrics) {
  const before = state.status;
  const startedAt = sum(metrics, 'process_start_time_seconds');
  const restarted = state.startedAt !== undefined && state.startedAt !== startedAt;
  if (restarted) {
    state.looks = [];
    addMarker(`the gate was started anew at ${clock(startedAt * 1000)}`);
    announce('The gate was started anew.');
    follow();
  }
  state.startedAt = startedAt;
  state.status = status;
  state.metrics = metrics;
  state.looks.push({
    at: Date.now(),
    requests: sum(metrics, 'witgate_requests_total'),
    allowed: sum(metrics, 'witgate_requests_total', { decision: 'allow' }),
    denied: sum(metrics, 'witgate_requests_total', { decision: 'deny' }),
    answers: histogram(metrics, 'witgate_request_duration_seconds'),
  });
  while (state.looks.length > 2 && state.looks[0].at < Date.now() - WINDOW_MS) state.looks.shift();
  if (before && !restarted && before.generation !== status.generation) {
    announce(`Generation ${status.generation} serves.`);
  } else if (before && before.lastReload && status.lastReload && status.lastReload.time !== before.lastReload.time
      && status.lastReload.result === 'refused') {
    announce('A reload was refused.');
  }
  showAll();
}

function showAll() {
  showFacts();
  showNotices();
  showFigures();
  showPlugins();
  showReloads();
  showClusters();
}

function showFacts() {
  const { status, metrics } = state;
  setText('generation', String(status.generation));
  const ready = byId('ready');
  ready.className = state.ready ? 'bad' : '';
  setText('ready', state.ready || 'ready');
  setText('uptime', `up ${ago(Date.now() / 1000 - state.startedAt)}`);
  const version = (metrics.get('witgate_build_info') || []).map(({ labels }) => labels.version)[0];
  setText('version', version ? `witgate ${version}` : '');
}

function showNotices() {
  const { status, metrics } = state;
  const notices = [];
  if (status.pinned) {
    notices.push(['warn', 'Rolled back.', `What serves is that of generation ${status.pinned.contentOf}, since ${clock(status.pinned.since)}; `
      + 'the plug-in folder holds something else. It stays so until the folder changes or a reload is asked for.']);
  }
  if (status.lastReload && status.lastReload.result === 'refused') {
    notices.push(['deny', 'The last reload was refused;', `generation ${status.generation} serves on. ${status.lastReload.error || ''}`]);
  }
  const { error, needsRestart } = status.configuration ?? {};
  if (error) notices.push(['deny', 'The changed configuration is not in force:', error]);
  if (needsRestart) notices.push(['warn', 'A restart is due:', `these keys of the configuration were changed: ${needsRestart.join(', ')}`]);
  const dropped = sum(metrics, 'witgate_decision_log_dropped_lines_total');
  if (dropped > 0) notices.push(['warn', 'The decision log lost lines:', `${count(dropped)} found no room.`]);
  setChildren(byId('notices'), notices, () =>
    notices.map(([kind, title, text]) => make('p', { class: kind }, make('strong', {}, title), text)));
}

function showFigures() {
  const { looks, metrics } = state;
  const [first, last] = [looks[0], looks[looks.length - 1]];
  const seconds = (last.at - first.at) / 1000;
  const per = key => seconds > 0 ? rate(Math.max(0, last[key] - first[key]) / seconds) : '–';
  setText('rate-requests', per('requests'));
  setText('rate-allowed', per('allowed'));
  setText('rate-denied', per('denied'));
  const answers = seconds > 0 ? minus(last.answers, first.answers) : [];
  setText('answer-p50', took(quantile(answers, 0.5)));
  setText('answer-p99', took(quantile(answers, 0.99)));
  setText('in-flight', count(sum(metrics, 'witgate_requests_in_flight')));
  setText('streams', count(sum(metrics, 'witgate_streams_open')));
  const memory = sum(metrics, 'process_resident_memory_bytes');
  setText('memory', memory ? bytes(memory) : '–');
}

// --- Plug-ins ---

function callsOf(plugin) {
  const wanted = { plugin: plugin.name, generation: String(plugin.generation) };
  const outcomes = {};
  for (const { labels, value } of state.metrics.get('witgate_plugin_calls_total') || []) {
    if (takes(labels, wanted)) outcomes[labels.outcome] = value;
  }
  return {
    outcomes,
    total: Object.values(outcomes).reduce((all, one) => all + one, 0),
    buckets: histogram(state.metrics, 'witgate_plugin_call_duration_seconds', wanted),
    memory: sum(state.metrics, 'witgate_plugin_memory_peak_bytes', wanted),
  };
}

// What is an answer, and not a failure to give one; that a caller brings no token is the caller's.
const ANSWERS = new Set(['allow', 'deny', 'no-opinion', 'conditional', 'credential', 'missing-token', 'refused']);

function showPlugins() {
  const plugins = state.status.plugins.map(plugin => ({ plugin, calls: callsOf(plugin) }));
  const isUnused = ({ plugin, calls }) => plugin.builtin && calls.total === 0 && !plugin.error && !plugin.quarantine;
  const shown = plugins.filter(one => !isUnused(one));
  shown.sort((one, other) => (one.plugin.kind === 'strategy') - (other.plugin.kind === 'strategy') || one.plugin.name.localeCompare(other.plugin.name));
  const unused = plugins.filter(isUnused).map(({ plugin }) => plugin.name);
  setText('plugins-note', plugins.some(({ plugin }) => plugin.kind === 'policy') ? '' : 'no policy: every request is denied');
  setChildren(byId('plugins'), shown, () => shown.map(({ plugin, calls }) => pluginItem(plugin, calls)));
  byId('unused').hidden = unused.length === 0;
  setText('unused-summary', `${plural(unused.length, 'built-in strategy', 'built-in strategies')} that nothing asked`);
  setText('unused-names', unused.join(', '));
}

function pluginItem(plugin, calls) {
  const facts = [
    plugin.generation !== undefined && `generation ${plugin.generation}`,
    plugin.digest && `sha256 ${plugin.digest.slice(0, 12)}`,
    plugin.contract,
    plugin.reference,
    plugin.isolation === 'reused' && 'instances reused',
    calls.memory > 0 && `peak ${Math.max(1, Math.round(calls.memory / 1024))} KiB`,
  ].filter(Boolean);
  const failed = Object.entries(calls.outcomes).filter(([outcome, number]) => number > 0 && !ANSWERS.has(outcome));
  const outcomes = Object.entries(calls.outcomes).filter(([outcome, number]) => number > 0 && ANSWERS.has(outcome))
    .map(([outcome, number]) => `${count(number)} ${outcome}`);
  return make('li', { 'data-plugin': plugin.name },
    make('div', { class: 'row' },
      make('span', { class: 'name' }, plugin.name),
      plugin.kind && make('span', { class: 'tag' }, plugin.kind),
      plugin.mode === 'shadow' && make('span', { class: 'tag warn' }, 'shadow'),
      plugin.builtin && make('span', { class: 'tag' }, 'built-in'),
      plugin.generation === undefined && make('span', { class: 'tag warn' }, 'does not serve')),
    make('div', { class: 'under' }, facts.join(' · ')),
    calls.total > 0 && make('div', { class: 'latency' }, latencyChart(plugin.name, calls.buckets),
      make('span', { class: 'under' }, `p50 ${took(quantile(calls.buckets, 0.5))} · p99 ${took(quantile(calls.buckets, 0.99))}`,
        make('br'), outcomes.join(', ') || plural(calls.total, 'call', 'calls'))),
    failed.length > 0 && make('div', { class: 'trouble' }, `failed: ${failed.map(([outcome, number]) => `${count(number)} ${outcome}`).join(', ')}`),
    plugin.shadow && make('div', { class: plugin.shadow.wouldDeny + plugin.shadow.wouldAllow + plugin.shadow.failed > 0 ? 'trouble warn' : 'under' },
      shadowText(plugin.shadow)),
    plugin.quarantine && make('div', { class: 'trouble warn' },
      plugin.quarantine.callers > 0
        ? `quarantine: not asked for ${plural(plugin.quarantine.callers, 'caller', 'callers')}, for up to ${took(plugin.quarantine.pauseMs / 1000)}; `
        : 'quarantine: nobody now; ',
      `${plural(plugin.quarantine.refused, 'call', 'calls')} refused so far`),
    plugin.startReason && make('div', { class: 'under' }, `configured for each call: ${plugin.startReason}`),
    plugin.error && make('div', { class: 'trouble' }, `its newest version does not serve: ${plugin.error}`));
}

function shadowText(shadow) {
  const { agreed, wouldDeny, wouldAllow, failed, dropped } = shadow;
  const total = agreed + wouldDeny + wouldAllow + failed;
  if (total === 0 && dropped === 0) return 'in shadow mode: not asked yet';
  const differences = [
    wouldDeny > 0 && `would have denied ${count(wouldDeny)}`,
    wouldAllow > 0 && `would have allowed ${count(wouldAllow)}`,
    failed > 0 && `gave no answer to ${count(failed)}`,
  ].filter(Boolean);
  return `in shadow mode: ${differences.length ? differences.join(', ') : 'agreed with all'} of ${plural(total, 'decision', 'decisions')}`
    + (dropped > 0 ? `; not asked about ${count(dropped)} more` : '');
}

/** A bar for each bucket, from 5 µs to the longest; its height is the share's square root, so that few are seen too. */
function latencyChart(name, buckets) {
  const most = Math.max(...buckets.map(({ count: inside }) => inside), 1);
  const width = 100 / Math.max(buckets.length, 1);
  const label = `${name}: half of its calls took at most ${took(quantile(buckets, 0.5))}, 99 of 100 at most ${took(quantile(buckets, 0.99))}`;
  const bars = buckets.map(({ bound, count: inside }, index) => {
    const height = inside > 0 ? Math.max(8, Math.sqrt(inside / most) * 100) : 3;
    return draw('rect', { class: inside > 0 ? '' : 'rest', x: index * width, width: width * 0.8, y: 100 - height, height },
      draw('title', {}, `up to ${bound === Infinity ? 'any' : took(bound)}: ${count(inside)}`));
  });
  return draw('svg', { viewBox: '0 0 100 100', preserveAspectRatio: 'none', role: 'img', 'aria-label': label }, bars);
}

// --- Reloads ---

function showReloads() {
  const { status } = state;
  const kept = status.keptGenerations;
  setText('kept-note', kept.length ? '' : 'no earlier generation is kept');
  setChildren(byId('rollbacks'), [kept, status.generation], () => [...kept].reverse().map(generation => {
    const button = make('button', { type: 'button', 'data-key': `rollback-${generation}`, 'data-generation': generation },
      `Roll back to ${generation}`);
    button.addEventListener('click', () => rollBack(generation));
    return button;
  }));
  const reloads = status.reloads.slice(-SHOWN_RELOADS).reverse();
  setChildren(byId('reloads'), reloads, () => reloads.map((reload, index) => reloadItem(reload, reloads[index + 1])));
}

const RESULT_CLASS = { published: 'allow', refused: 'deny', unchanged: '' };
const CAUSES = { start: 'start', changed: 'the folder changed', asked: 'asked for', retry: 'tried again', rollback: 'rollback' };
const PHASES = ['settle', 'scan', 'load', 'build'];

function reloadItem(reload, before) {
  const whole = PHASES.reduce((all, phase) => all + reload.phasesMs[phase], 0);
  const phases = PHASES.filter(phase => reload.phasesMs[phase] > 0);
  let from = 0;
  const bars = phases.map(phase => {
    const width = whole > 0 ? reload.phasesMs[phase] / whole * 100 : 0;
    from += width;
    return draw('rect', { class: phase, x: from - width, width, y: 0, height: 4 });
  });
  return make('li', { 'data-reload': reload.number, 'data-result': reload.result },
    make('div', { class: 'row' },
      make('span', {}, clock(reload.time)),
      make('span', { class: `word ${RESULT_CLASS[reload.result] || ''}` }, reload.result),
      make('span', { class: 'grow' }, reload.result === 'refused' ? `generation ${reload.generation} serves on` : `generation ${reload.generation}`,
        reload.changes && make('span', { class: 'clamp' }, reload.changes)),
      make('span', { class: 'under' }, CAUSES[reload.cause] || reload.cause)),
    make('div', { class: 'phases', 'aria-hidden': 'true' }, draw('svg', { viewBox: '0 0 100 4', preserveAspectRatio: 'none' }, bars)),
    make('div', { class: 'under' }, `${took(whole / 1000)}: ${phases.map(phase => `${phase} ${took(reload.phasesMs[phase] / 1000)}`).join(', ')}`),
    reload.error && (before && before.error === reload.error
      ? make('div', { class: 'under' }, 'refused for the same reason as before')
      : make('div', { class: 'trouble' }, reload.error)));
}

/** A dialog tells of its end a moment after it; the next question waits for that, or it would take the end for its own. */
let lastQuestion = Promise.resolve();

/** Asks the operator; true where they go on. */
async function confirmed(title, text, yes) {
  await lastQuestion;
  const dialog = byId('confirm');
  setText('confirm-title', title);
  setText('confirm-text', text);
  setText('confirm-yes', yes);
  const before = document.activeElement;
  const answer = new Promise(resolve => {
    dialog.returnValue = 'no';
    dialog.addEventListener('close', () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
      resolve(dialog.returnValue === 'yes');
    }, { once: true });
    dialog.showModal();
    byId('confirm-no').focus();
  });
  lastQuestion = answer;
  return answer;
}

for (const id of ['confirm-no', 'confirm-yes']) {
  byId(id).addEventListener('click', event => {
    event.preventDefault();
    byId('confirm').close(event.currentTarget.value);
  });
}

async function rollBack(generation) {
  const yes = await confirmed(`Roll back to generation ${generation}?`,
    `Generation ${state.status.generation} serves now. The plug-ins of generation ${generation} serve at once, as a new generation, for requests `
    + 'that begin from then on. The plug-in folder stays as it is.', 'Roll back');
  if (yes) await change('/rollback', { generation }, 'Rolled back.');
}

byId('reload').addEventListener('click', async () => {
  const pinned = state.status && state.status.pinned;
  const yes = await confirmed('Reload the plug-in folder?',
    pinned ? 'This ends the rollback: what the folder holds serves again, if it is good.' : 'What the folder holds is read now. If it is not good, nothing changes.',
    'Reload');
  if (yes) await change('/reload', undefined, 'Reloaded.');
});

async function change(path, body, done) {
  try {
    const answer = await ask(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: body === undefined ? '' : JSON.stringify(body),
      signal: AbortSignal.timeout(120000),
    });
    const told = await answer.json();
    announcedAt = 0;
    announce(answer.ok ? `${done} Generation ${told.generation} serves.` : `Not done: ${told.error}`);
    setText('kept-note', answer.ok ? '' : told.error);
  } catch {
    setText('kept-note', 'the gate did not answer');
  }
  await look();
}

// --- Clusters ---

function showClusters() {
  const clusters = state.status.clusters.map(cluster => {
    const wanted = { cluster: cluster.name };
    return {
      ...cluster,
      requests: sum(state.metrics, 'witgate_requests_total', wanted),
      inFlight: sum(state.metrics, 'witgate_requests_in_flight', wanted),
      failures: sum(state.metrics, 'witgate_upstream_errors_total', wanted),
      p99: quantile(histogram(state.metrics, 'witgate_request_duration_seconds', wanted), 0.99),
    };
  });
  const cache = state.status.credentialCache;
  setText('cache-note', `credential cache: ${count(cache.entries)} held, ${count(cache.hits)} hits, ${count(cache.misses)} misses`
    + (cache.failures > 0 ? `, ${count(cache.failures)} failures` : ''));
  setChildren(byId('clusters'), clusters, () => clusters.map(cluster => make('li', { 'data-cluster': cluster.name },
    make('div', { class: 'row' },
      make('span', { class: 'name' }, cluster.name),
      make('span', { class: 'tag' }, cluster.authProvider),
      make('span', { class: 'grow' }),
      make('span', { class: `word ${cluster.error ? 'deny' : 'allow'}` }, cluster.error ? 'in trouble' : 'no error')),
    make('div', { class: 'under' }, `${plural(cluster.requests, 'request', 'requests')} · ${count(cluster.inFlight)} in flight`,
      Number.isFinite(cluster.p99) && ` · p99 ${took(cluster.p99)}`,
      cluster.failures > 0 && ` · ${plural(cluster.failures, 'upstream error', 'upstream errors')}`),
    cluster.error && make('div', { class: 'trouble' }, cluster.error))));
  const names = clusters.map(({ name }) => name);
  const select = byId('filter-cluster');
  const chosen = select.value;
  setChildren(select, names, () => [make('option', { value: '' }, 'all'), ...names.map(name => make('option', { value: name }, name))]);
  select.value = chosen;
  setChildren(byId('cluster-names'), names, () => names.map(name => make('option', { value: name })));
}

// --- Decisions ---

let events;              // the EventSource
let following = false;
let followAgain;         // the timer of the next try
let followRetryMs = RETRY_MIN_MS;
const DECISION_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

function wantedQuery() {
  const query = new URLSearchParams({ follow: '1', limit: String(REPLAY_ROWS) });
  const who = byId('filter-who').value.trim();
  if (who) query.set(DECISION_ID.test(who) ? 'id' : 'user', who);
  for (const name of ['cluster', 'decision']) {
    const value = byId(`filter-${name}`).value;
    if (value) query.set(name, value);
  }
  return query.toString();
}

/** Begins to follow, anew where it did already. Also tells again what it knows, so that nothing between is missed. */
function follow() {
  unfollow();
  events = new EventSource(`/decisions?${wantedQuery()}`);
  events.addEventListener('open', () => {
    following = true;
    followRetryMs = RETRY_MIN_MS;
    showLink();
  });
  events.addEventListener('decision', event => {
    try {
      take(JSON.parse(event.data));
    } catch {
      // Not a decision; the next one is.
    }
  });
  events.addEventListener('lost', event => {
    const { lost } = JSON.parse(event.data);
    state.skipped += Number(lost) || 0;
  });
  events.addEventListener('error', () => {
    unfollow();
    followAgain = setTimeout(follow, followRetryMs);
    followRetryMs = Math.min(followRetryMs * 1.6, RETRY_MAX_MS);
    showLink();
  });
}

function unfollow() {
  clearTimeout(followAgain);
  following = false;
  if (events) events.close();
  events = undefined;
}

function take(decision) {
  if (typeof decision.id !== 'string') return;
  state.waiting.push(decision);
  if (state.waiting.length > WAITING_MAX) {
    state.waiting.shift();
    state.skipped += 1;
  }
}

function showWaiting() {
  if (!state.paused && state.waiting.length > 0) {
    const waiting = state.waiting.splice(0);
    for (const decision of waiting) showDecision(decision);
    forgetRows();
    rove();
  }
  const notes = [
    state.paused && `${count(state.waiting.length)} waiting`,
    state.skipped > 0 && `${count(state.skipped)} passed too fast to show`,
    state.rows.size >= KEEP_ROWS && `the last ${KEEP_ROWS}`,
  ].filter(Boolean);
  setText('decisions-note', notes.join(' · '));
  byId('decisions-empty').hidden = state.rows.size > 0;
}

function showDecision(decision) {
  const known = state.rows.get(decision.id);
  if (known) {
    // The second line of a stream: how it ended.
    if (decision.closeReason && !known.decision.closeReason) {
      known.decision = decision;
      known.row.querySelector('.why .clamp').textContent = why(decision);
      known.row.querySelector('.took').textContent = decision.durationMs ?? '';
      if (known.detail) toggle(known, true);
    }
    return;
  }
  learnUser(decision.user);
  const opener = make('button', { type: 'button', class: 'opener', 'aria-expanded': 'false', tabindex: '-1' }, clock(decision.time));
  const row = make('tr', { role: 'row', 'data-id': decision.id, 'data-decision': decision.decision, class: 'new' },
    make('td', { role: 'cell', class: 'time' }, opener),
    make('td', { role: 'cell' }, make('span', { class: `word ${decision.decision === 'allow' ? 'allow' : 'deny'}` }, decision.decision)),
    make('td', { role: 'cell', class: 'user' }, make('span', { class: 'clamp' }, decision.user ?? 'unknown caller')),
    make('td', { role: 'cell', class: 'request' }, make('span', { class: 'clamp' }, asked(decision))),
    make('td', { role: 'cell', class: 'why' }, make('span', { class: 'clamp' }, why(decision))),
    make('td', { role: 'cell', class: 'number status' }, decision.status ?? 'none'),
    make('td', { role: 'cell', class: 'number took' }, decision.durationMs ?? ''));
  const entry = { decision, row, opener, detail: undefined };
  opener.addEventListener('click', () => toggle(entry));
  state.rows.set(decision.id, entry);
  byId('decision-rows').prepend(row);
}

/** What was asked for, in Kubernetes' words where it has them. */
function asked(decision) {
  const { cluster, verb, apiGroup, namespace, resource, subresource, name, method, path } = decision;
  const where = cluster ? ` @ ${cluster}` : '';
  if (!resource) return `${verb || method || ''} ${path ?? ''}${where}`.trim();
  const kind = `${resource}${subresource ? `/${subresource}` : ''}${apiGroup ? `.${apiGroup}` : ''}`;
  const object = [namespace, name].filter(Boolean).join('/');
  return `${verb} ${kind}${object ? ` ${object}` : ''}${where}`;
}

function why(decision) {
  const parts = [
    decision.reason ?? (decision.policy && `allowed by ${decision.policy}`),
    decision.closeReason && `ended: ${decision.closeReason}`,
  ];
  return parts.filter(Boolean).join('; ');
}

function learnUser(user) {
  if (!user || state.users.has(user) || state.users.size >= USERS_KNOWN_MAX) return;
  state.users.add(user);
  byId('users').append(make('option', { value: user }));
}

function forgetRows() {
  for (const [id, entry] of state.rows) {
    if (state.rows.size <= KEEP_ROWS) break;
    const next = entry.row.previousElementSibling;
    const hadFocus = entry.row.contains(document.activeElement) || (entry.detail && entry.detail.contains(document.activeElement));
    if (entry.detail) entry.detail.remove();
    entry.row.remove();
    state.rows.delete(id);
    if (hadFocus && next) next.querySelector('.opener')?.focus();
  }
  const rows = byId('decision-rows');
  while (rows.lastElementChild?.classList.contains('marker')) rows.lastElementChild.remove();
}

function clearRows() {
  state.rows.clear();
  state.waiting = [];
  state.skipped = 0;
  byId('decision-rows').replaceChildren();
}

function addMarker(text) {
  showWaiting();
  if (state.rows.size > 0) byId('decision-rows').prepend(make('tr', { role: 'row', class: 'marker' }, make('td', { role: 'cell', colspan: '7' }, text)));
}

function toggle(entry, open = !entry.detail) {
  if (entry.detail) entry.detail.remove();
  entry.detail = undefined;
  entry.opener.setAttribute('aria-expanded', String(open));
  if (!open) return;
  const pairs = Object.entries(entry.decision).map(([key, value]) =>
    [make('dt', {}, key), make('dd', {}, Array.isArray(value) ? value.join(', ') : String(value))]);
  const again = make('button', { type: 'button' }, 'Try it again');
  again.addEventListener('click', () => tryAgain(entry.decision));
  entry.detail = make('tr', { role: 'row', class: 'detail' },
    make('td', { role: 'cell', colspan: '7' }, make('dl', { class: 'pairs' }, pairs), entry.decision.path && again));
  entry.row.after(entry.detail);
}

/** One decision alone is a stop of the Tab key; the arrow keys go to the others. */
function rove(to) {
  const openers = [...byId('decision-rows').querySelectorAll('.opener')];
  const current = to ?? openers.find(opener => opener.tabIndex === 0) ?? openers[0];
  for (const opener of openers) if ((opener.tabIndex === 0) !== (opener === current)) opener.tabIndex = opener === current ? 0 : -1;
  if (to) to.focus();
}

byId('decision-rows').addEventListener('keydown', event => {
  if (!event.target.classList.contains('opener')) return;
  const openers = [...byId('decision-rows').querySelectorAll('.opener')];
  const at = openers.indexOf(event.target);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: openers.length - 1 }[event.key];
  if (to === undefined || !openers[to]) return;
  event.preventDefault();
  rove(openers[to]);
});

byId('decision-rows').addEventListener('focusin', event => {
  if (event.target.classList.contains('opener') && event.target.tabIndex !== 0) rove(event.target);
});

byId('pause').addEventListener('click', () => {
  state.paused = !state.paused;
  byId('pause').setAttribute('aria-pressed', String(state.paused));
  showWaiting();
});

let filterChange;

function filtersChanged() {
  clearTimeout(filterChange);
  filterChange = setTimeout(() => {
    clearRows();
    follow();
    showWaiting();
  }, 300);
}

byId('filters').addEventListener('submit', event => event.preventDefault());
byId('filters').addEventListener('input', filtersChanged);
byId('filters').addEventListener('reset', () => setTimeout(filtersChanged));

// --- Trying a request ---

function tryAgain(decision) {
  byId('try-user').value = decision.user ?? '';
  byId('try-groups').value = (decision.groups ?? []).join(', ');
  byId('try-cluster').value = decision.cluster ?? '';
  byId('try-request').value = `${decision.method ?? 'GET'} ${decision.path ?? '/'}`;
  byId('try-upgrade').checked = decision.upgrade === true;
  byId('try-send').focus();
  byId('try').requestSubmit();
}

byId('try').addEventListener('submit', async event => {
  event.preventDefault();
  const answer = byId('try-answer');
  const groups = byId('try-groups').value.split(',').map(group => group.trim()).filter(Boolean);
  const cluster = byId('try-cluster').value.trim();
  const asking = { user: byId('try-user').value, groups, request: byId('try-request').value.trim() };
  if (cluster) asking.cluster = cluster;
  if (byId('try-upgrade').checked) asking.upgrade = true;
  byId('try-send').disabled = true;
  try {
    const response = await ask('/try', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(asking) });
    const told = await response.json();
    answer.replaceChildren(...(response.ok ? triedNodes(told) : [make('p', { class: 'trouble' }, told.error)]));
  } catch {
    answer.replaceChildren(make('p', { class: 'trouble' }, 'The gate did not answer.'));
  }
  byId('try-send').disabled = false;
});

function triedNodes({ generation, verdict, request, answers }) {
  const allowed = verdict.decision === 'allow';
  const understood = request && `Understood as ${asked(request)}, action class ${request.actionClass}.`
    + (request.clusterExists ? '' : ` There is no cluster '${request.cluster}'.`);
  return [
    make('p', { class: `verdict ${allowed ? '' : 'deny'}` }, make('span', { class: `word ${allowed ? 'allow' : 'deny'}` }, allowed ? 'Allowed' : 'Denied'),
      ` in generation ${generation}`, allowed ? verdict.policy && `, by ${verdict.policy}` : `: ${verdict.reason}`),
    understood && make('p', { class: 'note' }, understood),
    make('ul', { class: 'plain answers' }, answers.map(answer => make('li', {},
      make('div', { class: 'row' },
        make('span', { class: 'name' }, answer.policy),
        make('span', { class: `word ${{ allow: 'allow', deny: 'deny', failed: 'deny' }[answer.answer] || ''}` }, answer.answer),
        answer.mode === 'shadow' && make('span', { class: 'tag warn' }, 'shadow: not counted'),
        make('span', { class: 'grow' }, answer.holds === undefined ? '' : answer.holds ? 'holds' : 'does not hold'),
        make('span', { class: 'under' }, took(answer.microseconds / 1e6))),
      answer.reason && make('div', { class: 'under' }, answer.reason),
      (answer.anyOf || []).map((all, index) => make('div', { class: 'under' }, index ? 'or ' : '',
        all.map(({ rule, params, negated, holds }) => `${negated ? 'not ' : ''}${rule}(${Object.values(params).flat().join(', ')}) ${holds ? 'holds' : 'does not hold'}`)
          .join(', and '))),
      (answer.warnings || []).map(warning => make('div', { class: 'under' }, `warns: ${warning}`))))),
  ].filter(Boolean);
}

// --- Begin; rest while nobody looks ---

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    unfollow();
    clearTimeout(looking);
    return;
  }
  follow();
  look();
});

setInterval(() => { if (!document.hidden) showWaiting(); }, SHOW_EVERY_MS);
if (!document.hidden) {
  follow();
  look();
}
