//! The console, in a real browser. Without one these tests say that they are skipped.

use serde_json::json;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::browser::{self, Browser, Scheme};
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

const POD: &str = "/api/v1/namespaces/dev/pods/web-1";

/// A browser on the console of `gate`; none where the machine has none.
async fn console_of(gate: &Gate) -> Option<Browser> {
    let program = match browser::program() {
        Ok(program) => program,
        Err(why) => {
            println!("skipped: {why}");
            return None;
        }
    };
    let mut browser = Browser::start(&program).await;
    browser.look_like(1280, 900, Scheme::Light).await;
    browser.open(&format!("http://{}/", gate.admin_address())).await;
    browser.until("the page is live", "document.querySelector('#link').dataset.state === 'live'").await;
    browser.until("the generation is shown", "document.querySelector('#generation').textContent !== '–'").await;
    Some(browser)
}

/// Nothing that the page did was forbidden by its rules, and nothing threw.
fn assert_content(browser: &Browser) {
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
}

/// A policy that is dropped into the folder, and what it does, are seen without a reload of the page.
#[tokio::test]
async fn a_new_generation_and_its_denials_appear_by_themselves() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let Some(mut page) = console_of(&gate).await else { return };
    page.evaluate("window.untouched = true").await;
    gate.client_as("jane").get(POD).await;
    page.until("the allowed decision", "!!document.querySelector('tr[data-decision=allow]')").await;
    assert_eq!(page.text("#generation").await, "1");

    gate.plugins().put(&Plugin::policy("deny-proxy"));
    page.until("the new generation", "document.querySelector('#generation').textContent === '2'").await;
    gate.client_as("jane").get(POD).await;

    page.until("the denial", "!!document.querySelector('tr[data-decision=deny]')").await;
    let row = page.text("tr[data-decision=deny]").await;
    for told in ["deny", "user:default/jane", "get pods dev/web-1 @ one", "denied by policy `deny-proxy`", "403"] {
        assert!(row.contains(told), "{told}: {row}");
    }
    assert!(page.text("[data-reload='2']").await.contains("+deny-proxy"));
    page.until("the policy's calls", "/1 deny/.test(document.querySelector('[data-plugin=deny-proxy]').innerText)")
        .await;
    assert_eq!(page.evaluate("window.untouched").await, true, "the page was not loaded anew");

    gate.plugins().put(&Plugin::of_bytes("torn", b"garbage"));
    page.until("the refusal", "/torn/.test(document.querySelector('#notices').innerText)").await;
    page.until("its record", "!!document.querySelector('[data-result=refused] .trouble')").await;
    assert_content(&page);
}

/// What went wrong is undone without a mouse: Tab to the button, Enter, Tab, Enter; and Escape goes back.
#[tokio::test]
async fn a_rollback_needs_no_mouse() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    gate.plugins().put_whole(&Plugin::policy("deny-proxy"));
    assert_eq!(gate.admin().post("/reload", "").await.status(), 200);
    for _ in 0..30 {
        assert_eq!(gate.client_as("jane").get(POD).await.status(), 403);
    }
    let Some(mut page) = console_of(&gate).await else { return };
    page.until("all decisions", "document.querySelectorAll('tr[data-id]').length === 30").await;

    let mut stops = Vec::new();
    for _ in 0..40 {
        page.press("Tab").await;
        let focused = "(f => [f.id || f.className || f.textContent, f.dataset.generation ?? '', f.matches(':focus-visible')])(document.activeElement)";
        let focused = page.evaluate(focused).await;
        assert_eq!(focused[2], true, "the focus can be seen: {focused}");
        stops.push(focused[0].as_str().unwrap().to_owned());
        if focused[1] == "1" {
            break;
        }
    }
    assert_eq!(stops.first().map(String::as_str), Some("skip"), "{stops:?}");
    assert_eq!(stops.iter().filter(|stop| *stop == "opener").count(), 1, "the decisions are one stop: {stops:?}");
    assert!(stops.len() < 20, "{stops:?}");
    page.press("Enter").await;
    page.until("the question", "document.querySelector('#confirm').open").await;
    page.press("Escape").await;
    page.until("no question", "!document.querySelector('#confirm').open").await;
    assert_eq!(page.evaluate("document.activeElement.dataset.generation").await, "1", "the focus is where it was");
    assert_eq!(gate.status().await["generation"], 2);

    page.press("Enter").await;
    page.until("the question", "document.querySelector('#confirm').open").await;
    assert_eq!(page.evaluate("document.activeElement.id").await, "confirm-no", "the harmless answer has the focus");
    page.press("Tab").await;
    page.press("Enter").await;

    page.until("the rollback", "document.querySelector('#generation').textContent === '3'").await;
    page.until("the notice", "/Rolled back/.test(document.querySelector('#notices').innerText)").await;
    assert_eq!(gate.client_as("jane").get(POD).await.status(), 200);
    assert_content(&page);
}

/// Decisions are gone through and opened with the arrow keys, and one that is there is tried again.
#[tokio::test]
async fn decisions_are_read_with_the_keyboard() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let older = gate.client_as("jane").delete(POD).await;
    gate.client_as("john").get(POD).await;
    let Some(mut page) = console_of(&gate).await else { return };
    page.until("both", "document.querySelectorAll('tr[data-id]').length === 2").await;

    page.evaluate("document.querySelector('.opener[tabindex=\"0\"]').focus()").await;
    page.press("ArrowDown").await;
    page.press("Enter").await;

    let detail = page.text("tr.detail").await;
    assert!(detail.contains(older.decision_id()) && detail.contains("read-only"), "{detail}");
    assert_eq!(page.evaluate("document.activeElement.getAttribute('aria-expanded')").await, "true");
    page.press("Tab").await;
    page.press("Enter").await;
    page.until("the answer", "/Denied/.test(document.querySelector('#try-answer').innerText)").await;
    let answer = page.text("#try-answer").await;
    for told in ["denied by policy `read-only`", "delete pods dev/web-1 @ one", "allow-all"] {
        assert!(answer.contains(told), "{told}: {answer}");
    }
    assert!(answer.contains("µs") || answer.contains(" ms"), "how long it took: {answer}");
    assert_eq!(gate.recent_decisions("").await.len(), 2, "a trial is no decision");

    page.evaluate("document.querySelector('#filter-who').focus()").await;
    page.type_text("user:default/john").await;
    page.until(
        "john's alone",
        "[...document.querySelectorAll('.user')].map(c => c.innerText).join() === 'user:default/john'",
    )
    .await;
    page.evaluate("document.querySelector('#filters-reset').click()").await;
    page.until("both again", "document.querySelectorAll('tr[data-id]').length === 2").await;
    page.evaluate(&format!("document.querySelector('#filter-who').value = {}", json!(older.decision_id()))).await;
    page.evaluate("document.querySelector('#filters').dispatchEvent(new Event('input', { bubbles: true }))").await;
    page.until("the one of that id", "document.querySelectorAll('tr[data-id]').length === 1").await;
    assert!(page.text("tr[data-id]").await.contains("jane"));
    assert_content(&page);
}

/// What callers choose is shown as it is, and never becomes part of the page.
#[tokio::test]
async fn what_callers_write_stays_text() {
    let api_server = ApiServer::start().await;
    let hostile = r#"<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"#;
    let gate = Gate::builder(&api_server)
        .set("authentication", json!([{ "anonymous": { "user": hostile, "groups": [hostile] } }]))
        .policy("read-only")
        .start()
        .await;
    let Some(mut page) = console_of(&gate).await else { return };
    let nobody = gate.client().kubernetes("one");
    nobody.get("/api/v1/namespaces/%3Cimg%20src=x%20onerror=hacked=1%3E/pods/%3Cb%3E").await;
    nobody.delete("/apis/%3Cscript%3Ex/v1/%3Csvg%20onload=hacked=1%3E").await;
    page.until("both", "document.querySelectorAll('tr[data-id]').length === 2").await;

    page.evaluate("document.querySelectorAll('.opener').forEach(opener => opener.click())").await;
    page.evaluate("document.querySelector('tr.detail button').click()").await;
    page.until("the answer", "document.querySelector('#try-answer').childElementCount > 0").await;

    assert_eq!(page.text("tr[data-id] .user").await, hostile);
    let strange = "document.querySelectorAll('main img, main script, main b, main svg[onload], tbody svg').length";
    assert_eq!(page.evaluate(strange).await, 0);
    assert_eq!(page.evaluate("window.hacked ?? null").await, serde_json::Value::Null);
    let made = "(() => { try { document.body.innerHTML = '<b>x</b>'; return 'made' } catch (e) { return e.name } })()";
    assert_eq!(page.evaluate(made).await, "TypeError", "the page's rules let no text become HTML");
}

/// The page says that what it shows is old, comes back with the gate, and begins to follow anew.
#[tokio::test]
async fn a_gate_that_goes_and_comes_is_noticed() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let address = gate.admin_address();
    gate.client_as("jane").get(POD).await;
    let Some(mut page) = console_of(&gate).await else { return };
    page.until("the decision", "document.querySelectorAll('tr[data-id]').length === 1").await;

    assert!(gate.stop_gracefully().await.success());
    page.until("it is stale", "document.querySelector('#link').dataset.state === 'stale'").await;
    assert!(page.text("#link").await.starts_with("no answer since "));
    let again = Gate::builder(&api_server).set("admin", address.to_string()).start().await;
    page.until("it is live", "document.querySelector('#link').dataset.state === 'live'").await;
    page.until("the marker", "!!document.querySelector('tr.marker')").await;
    again.client_as("john").get(POD).await;
    page.until("the next decision", "document.querySelectorAll('tr[data-id]').length === 2").await;
}

/// Rows are bounded, a stream's end goes to its row, a page that nobody looks at rests, and 360 pixels are enough.
#[tokio::test]
async fn the_page_stays_small() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let Some(mut page) = console_of(&gate).await else { return };
    let jane = gate.client_as("jane");
    let mut watch = jane.get("/api/v1/pods?watch=1").open().await;
    writer.write("x").await;
    watch.next_piece().await.unwrap().unwrap();
    page.until("the watch", "!!document.querySelector('tr[data-id]')").await;
    drop(writer);
    assert!(watch.next_piece().await.is_none());
    page.until("its end", "/ended: completed/.test(document.querySelector('tr[data-id] .why').innerText)").await;

    let john = gate.caller("john").backstage("one");
    for _ in 0..230 {
        john.delete(POD).await;
    }
    page.until("the last of them", "/the last 200/.test(document.querySelector('#decisions-note').innerText)").await;
    assert_eq!(page.evaluate("document.querySelectorAll('#decision-rows tr').length").await, 200);

    for scheme in [Scheme::Light, Scheme::Dark] {
        page.look_like(360, 740, scheme).await;
        assert_eq!(page.evaluate("document.documentElement.scrollWidth").await, 360, "nothing stands out");
    }
    let is_small = "[...document.querySelectorAll('button, input:not([type=checkbox]), select')].filter(e => e.offsetParent && e.getBoundingClientRect().right > 360).length";
    assert_eq!(page.evaluate(is_small).await, 0);

    let hide = |hidden: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ configurable: true, value: {hidden} }}); \
             document.dispatchEvent(new Event('visibilitychange')); !events"
        )
    };
    assert_eq!(page.evaluate(&hide(true)).await, true, "it follows no more");
    gate.caller("john").backstage("one").get("/version").await;
    assert_eq!(page.evaluate(&hide(false)).await, false);
    page.until("what came meanwhile", "/version/.test(document.querySelector('tr[data-id] .request').innerText)").await;
    assert_content(&page);
}

/// Whoever opens it gets the page and its rules, and a name that leads here from elsewhere gets neither.
#[tokio::test]
async fn the_page_comes_with_its_rules() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let answer = gate.admin().get("/").await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let rules = answer.header("content-security-policy").unwrap();
    assert!(rules.starts_with("default-src 'none'; script-src 'sha256-") && !rules.contains("unsafe"), "{rules}");
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    assert_eq!(gate.admin().get("/").header("host", "attacker.example").await.status(), 421);
    assert_eq!(gate.admin().post("/", "").await.status(), 405);
}
