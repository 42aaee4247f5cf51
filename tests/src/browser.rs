//! A real browser, headless: Chromium, told what to do by its own DevTools protocol, and everything that its pages complain of.
//!
//! The protocol and not WebDriver: it needs no second program and no crate, and can press keys, be of any size and prefer the dark.

#![expect(clippy::indexing_slicing, reason = "JSON is read by key: what is not there fails the test")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::process::Process;
use crate::waiting::{soon, until_mut};

/// A browser with one page.
pub struct Browser {
    socket: WebSocketStream<TcpStream>,
    session: String,
    last_id: u64,
    complaints: Vec<String>,
    _process: Process,
    _profile: TempDir,
}

/// What the system asks pages to look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// Dark text on a light ground.
    Light,
    /// Light text on a dark ground.
    Dark,
}

/// The browser's program, or why the test that needs one is skipped.
///
/// # Errors
/// Where there is none.
pub fn program() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("WITGATE_CHROMIUM") {
        return Ok(path.into());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| "no chromium (Debian: apt-get install chromium; elsewhere set WITGATE_CHROMIUM)".to_owned())
}

impl Browser {
    /// Starts one on an empty page.
    pub async fn start(program: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let process = Process::start(&mut command);
        let listening = |line: &str| line.strip_prefix("DevTools listening on ").map(str::to_owned);
        // The first start on a machine reads some hundred megabytes.
        let url = process.stderr.wait_for_within(START_MAX, "the browser listens", 1, listening).await.remove(0);
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).expect("a WebSocket's URL");
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = tokio_tungstenite::client_async(url.as_str(), stream).await.unwrap();
        let mut browser = Self {
            socket,
            session: String::new(),
            last_id: 0,
            complaints: Vec::new(),
            _process: process,
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach).await;
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    /// Opens a page.
    pub async fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url })).await;
        assert_eq!(opened.get("errorText"), None, "{url}: {opened}");
        self.until("the page is loaded", "document.readyState === 'complete' && location.href !== 'about:blank'").await;
    }

    /// Is a window of this size, on a system that prefers `scheme`.
    pub async fn look_like(&mut self, width: u32, height: u32, scheme: Scheme) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
        let value = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// What `expression` is, on the page.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked).await;
        assert_eq!(answer.get("exceptionDetails"), None, "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until `expression` is true on the page.
    pub async fn until(&mut self, what: &str, expression: &str) {
        until_mut(what, self, async |browser: &mut Self| (browser.evaluate(expression).await == true).then_some(()))
            .await;
    }

    /// The text of the one element of this selector.
    pub async fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({})?.innerText ?? null", json!(selector))).await;
        text.as_str().unwrap_or_else(|| panic!("no element {selector}")).to_owned()
    }

    /// Presses a key and lets it go: `Tab`, `Enter`, `Escape`, `ArrowDown`, `ArrowUp` or `Space`.
    pub async fn press(&mut self, key: &str) {
        let (name, code, text) = match key {
            "Tab" => ("Tab", 9, ""),
            "Enter" => ("Enter", 13, "\r"),
            "Escape" => ("Escape", 27, ""),
            "ArrowUp" => ("ArrowUp", 38, ""),
            "ArrowDown" => ("ArrowDown", 40, ""),
            "Space" => (" ", 32, " "),
            other => panic!("no such key: {other}"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": name, "code": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Types a text where the focus is.
    pub async fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// A picture of the window, as PNG.
    pub async fn screenshot(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let data = answer["data"].as_str().expect("a picture");
        base64::engine::general_purpose::STANDARD.decode(data).unwrap()
    }

    /// Exceptions, warnings and what the page's rules forbade, so far.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() && !method.starts_with("Target.") {
            message["sessionId"] = self.session.as_str().into();
        }
        self.socket.send(Message::text(message.to_string())).await.unwrap();
        soon(method, self.answer(id)).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn answer(&mut self, id: u64) -> Result<Value, Value> {
        loop {
            let message = self.socket.next().await.expect("the browser is there").unwrap();
            let Ok(text) = message.to_text() else { continue };
            let Ok(mut told) = serde_json::from_str::<Value>(text) else { continue };
            if told["id"] == id {
                return match told.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(told["result"].take()),
                };
            }
            match told["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(told["params"]["exceptionDetails"].to_string()),
                Some("Log.entryAdded") if told["params"]["entry"]["level"] == "error" => {
                    self.complaints.push(told["params"]["entry"].to_string());
                }
                _ => {}
            }
        }
    }
}

/// How long it may take to start.
const START_MAX: Duration = Duration::from_secs(120);
