// The browser's end of `planetmesh dashboard --web`: a terminal, its keys and its size, over one WebSocket.
import { FitAddon } from "./addon-fit.mjs";
import { Unicode11Addon } from "./addon-unicode11.mjs";
import { Terminal } from "./xterm.mjs";

const PROTOCOL = "planetmesh-dashboard";
const KEPT_AS = "planetmesh-token";
const TOKEN = /^[A-Za-z0-9_-]{20,100}$/;
const ENDS = {
  1001: "`planetmesh dashboard --web` has ended. Start it again, and open the address that it prints.",
  4000: "You have left the dashboard; the mesh goes on.",
  4001: "Too many browser tabs show this dashboard. Close one of them, then connect again.",
  4002: "The dashboard ended by a mistake in planetmesh. The terminal in which it was started says more.",
};
const REFUSED =
  "Not let in. Open the address that `planetmesh dashboard --web` printed last, with all that stands behind the #.";
const LOST = "The connection is lost. If `planetmesh dashboard --web` still runs, connect again.";

// What stands behind the # is never sent with a request. It is taken out of the address bar, and kept for
// this tab and this origin, port included: a cookie would go to every server on this machine.
function takeToken() {
  const given = location.hash.slice(1);
  if (given) {
    sessionStorage.setItem(KEPT_AS, given);
    history.replaceState(null, "", location.pathname);
  }
  return given || sessionStorage.getItem(KEPT_AS) || "";
}

const panel = document.getElementById("panel");
const again = document.getElementById("again");
const token = takeToken();
addEventListener("hashchange", () => location.reload());

const terminal = new Terminal({
  allowProposedApi: true, // Unicode 11's widths
  fontFamily: "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace",
  fontSize: 14,
  linkHandler: { activate() {} }, // what is shown comes from other machines, and nothing of it is a link
  macOptionIsMeta: true,
  scrollback: 0,
  theme: { background: "#12161b", foreground: "#d5dbe1" },
});
const fit = new FitAddon();
terminal.loadAddon(fit);
terminal.loadAddon(new Unicode11Addon());
terminal.unicode.activeVersion = "11";
// Text that was copied in the dashboard.
terminal.parser.registerOscHandler(52, (data) => {
  const bytes = Uint8Array.from(atob(data.slice(data.indexOf(";") + 1)), (letter) => letter.charCodeAt(0));
  navigator.clipboard?.writeText(new TextDecoder().decode(bytes)).catch(() => {});
  return true;
});
// The colour of the ground, for what is left beside the terminal's last column and line.
terminal.parser.registerOscHandler(11, (colour) => {
  document.body.style.background = colour;
  return false; // xterm.js does the same for its own part
});
terminal.open(document.getElementById("terminal"));
fit.fit();

const encoder = new TextEncoder();
let socket = null;

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(message);
}

terminal.onData((text) => send(encoder.encode(text)));
terminal.onBinary((text) => send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
terminal.onResize(({ cols, rows }) => send(JSON.stringify({ columns: cols, rows })));
new ResizeObserver(() => requestAnimationFrame(() => fit.fit())).observe(document.getElementById("terminal"));

function say(sentence) {
  document.getElementById("said").textContent = sentence;
  panel.hidden = false;
  again.focus();
}

function connect() {
  if (!TOKEN.test(token)) return say(REFUSED);
  let wasOpen = false;
  panel.hidden = true;
  terminal.reset();
  const query = new URLSearchParams({ columns: terminal.cols, rows: terminal.rows });
  socket = new WebSocket(`ws://${location.host}/session?${query}`, [PROTOCOL, token]);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    wasOpen = true;
    terminal.focus();
  };
  socket.onmessage = ({ data }) => terminal.write(new Uint8Array(data));
  socket.onclose = ({ code }) => say(ENDS[code] ?? (wasOpen ? LOST : REFUSED));
}

again.onclick = connect;
connect();
