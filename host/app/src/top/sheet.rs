//! The board as lines and tables of plain words: printed as they are by `--once`, drawn with colours by the terminal view.

use super::board::{Board, Flow, Traffic};
use super::looking::{Cluster, Decision, Plugin};
use super::samples::Samples;

/// A table.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) title: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
}

/// A column; the wide ones take what the others leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) wide: u16,
    pub(super) is_number: bool,
}

/// A row, and what it means.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    pub(super) tone: Tone,
}

/// What a row or line means, beside its words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Tone {
    Plain,
    /// Refused, or broken.
    Bad,
    /// Worth a look.
    Odd,
}

/// What stands above the tables.
pub(super) fn head(board: &Board, admin: &str) -> Vec<(String, Tone)> {
    let Some((look, traffic)) = board.last().zip(board.traffic()) else { return Vec::new() };
    let version =
        look.samples.by("witgate_build_info", &[], "version").into_keys().next().unwrap_or_default().to_owned();
    let up = traffic.up_seconds.map_or_else(String::new, |seconds| format!(", up {}", ago(seconds)));
    let ready = look.unready.as_deref().unwrap_or("ready");
    let mut lines = vec![
        (
            clean(&format!("witgate {version} at {admin}: generation {}, {ready}{up}", look.status.generation)),
            if look.unready.is_some() { Tone::Bad } else { Tone::Plain },
        ),
        (figures(&traffic), Tone::Plain),
    ];
    if let Some(pinned) = &look.status.pinned {
        let text = format!(
            "rolled back to what generation {} served; the plug-in folder holds something else",
            pinned.content_of
        );
        lines.push((text, Tone::Odd));
    }
    if let Some(refused) = look.status.last_reload.as_ref().filter(|last| last.result == "refused") {
        let why = refused.error.as_deref().unwrap_or_default();
        lines.push((clean(&format!("the reload of {} was refused: {why}", clock(&refused.time))), Tone::Bad));
    }
    lines
}

fn figures(traffic: &Traffic) -> String {
    let Traffic { requests, allowed, denied, in_flight, streams, memory_bytes, up_seconds: _ } = *traffic;
    let flow = |Flow { total, per_second }: Flow| match per_second {
        Some(rate) => format!("{total} ({rate:.1}/s)"),
        None => total.to_string(),
    };
    format!(
        "requests {}, allowed {}, denied {}, in flight {in_flight}, streams {streams}, memory {} MiB",
        flow(requests),
        flow(allowed),
        flow(denied),
        memory_bytes >> 20,
    )
}

pub(super) fn plugins(board: &Board, with_unused: bool) -> Sheet {
    const COLUMNS: &[Column] = &[
        text("PLUG-IN", 0),
        text("KIND", 0),
        text("MODE", 0),
        number("GEN"),
        number("CALLS"),
        number("P50"),
        number("P99"),
        number("FAILED"),
        text("NOTE", 1),
    ];
    let rows = board.plugins(with_unused).into_iter().map(|(plugin, calls)| {
        let note = note(plugin);
        let tone = match &note {
            _ if plugin.error.is_some() || calls.failed > 0 => Tone::Bad,
            Some(_) => Tone::Odd,
            None => Tone::Plain,
        };
        let word = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
        Row {
            cells: vec![
                clean(&plugin.name),
                word(&plugin.kind),
                word(&plugin.mode),
                plugin.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
                calls.total.to_string(),
                took(calls.p50),
                took(calls.p99),
                calls.failed.to_string(),
                note.unwrap_or_default(),
            ],
            tone,
        }
    });
    Sheet { title: "Plug-ins", columns: COLUMNS, rows: rows.collect() }
}

/// What an operator should know of a plug-in; nothing, mostly.
fn note(plugin: &Plugin) -> Option<String> {
    let error = plugin.error.as_ref().map(|error| format!("its newest version does not serve: {error}"));
    let quarantine = plugin.quarantine.as_ref().filter(|quarantine| quarantine.callers > 0);
    let quarantine = quarantine.map(|quarantine| match quarantine.callers {
        1 => "not asked for 1 caller".to_owned(),
        callers => format!("not asked for {callers} callers"),
    });
    let shadow = plugin.shadow.as_ref().map(|shadow| {
        let asked = shadow.agreed + shadow.would_deny + shadow.would_allow + shadow.failed;
        format!(
            "of {asked} decisions would deny {}, would allow {}, fail {}",
            shadow.would_deny, shadow.would_allow, shadow.failed
        )
    });
    let notes: Vec<_> = [error, quarantine, shadow].into_iter().flatten().collect();
    (!notes.is_empty()).then(|| clean(&notes.join("; ")))
}

pub(super) fn clusters(board: &Board) -> Sheet {
    const COLUMNS: &[Column] = &[
        text("CLUSTER", 0),
        text("STRATEGY", 0),
        number("REQUESTS"),
        number("IN FLIGHT"),
        number("ERRORS"),
        number("P99"),
        text("STATE", 1),
    ];
    let rows = board.clusters().map(|(cluster, samples)| cluster_row(cluster, samples));
    Sheet { title: "Clusters", columns: COLUMNS, rows: rows.collect() }
}

fn cluster_row(cluster: &Cluster, samples: &Samples) -> Row {
    let wanted = [("cluster", cluster.name.as_str())];
    let count = |name| super::board::whole(samples.sum(name, &wanted)).to_string();
    Row {
        cells: vec![
            clean(&cluster.name),
            clean(&cluster.auth_provider),
            count("witgate_requests_total"),
            count("witgate_requests_in_flight"),
            count("witgate_upstream_errors_total"),
            took(samples.quantile("witgate_request_duration_seconds", &wanted, 0.99)),
            clean(cluster.error.as_deref().unwrap_or("no error")),
        ],
        tone: if cluster.error.is_some() { Tone::Bad } else { Tone::Plain },
    }
}

/// The last `count` decisions, the newest first; all or the denied ones alone.
pub(super) fn decisions(board: &Board, count: usize, denied_alone: bool) -> Sheet {
    const COLUMNS: &[Column] = &[
        text("TIME", 0),
        text("DECISION", 0),
        text("USER", 2),
        text("REQUEST", 3),
        text("WHY", 3),
        number("STATUS"),
        number("MS"),
    ];
    let wanted = |decision: &&Decision| !denied_alone || decision.decision == "deny";
    let rows = board.decisions().filter(wanted).take(count).map(|decision| Row {
        cells: vec![
            clock(&decision.time),
            clean(&decision.decision),
            clean(decision.user.as_deref().unwrap_or("unknown caller")),
            asked(decision),
            why(decision),
            decision.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            decision.duration_ms.map(|ms| ms.to_string()).unwrap_or_default(),
        ],
        tone: if decision.decision == "deny" { Tone::Bad } else { Tone::Plain },
    });
    Sheet { title: "Decisions", columns: COLUMNS, rows: rows.collect() }
}

fn asked(decision: &Decision) -> String {
    let word = |text: &Option<String>| text.clone().unwrap_or_default();
    let present = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let at = present(&decision.cluster).map_or_else(String::new, |cluster| format!(" @ {cluster}"));
    let Some(resource) = present(&decision.resource) else {
        let verb = present(&decision.verb).or_else(|| present(&decision.method)).unwrap_or_default();
        return clean(format!("{verb} {}{at}", word(&decision.path)).trim());
    };
    let subresource = present(&decision.subresource).map_or_else(String::new, |name| format!("/{name}"));
    let group = present(&decision.api_group).map_or_else(String::new, |name| format!(".{name}"));
    let object: Vec<_> = [&decision.namespace, &decision.name].into_iter().filter_map(present).collect();
    let object = if object.is_empty() { String::new() } else { format!(" {}", object.join("/")) };
    clean(&format!("{} {resource}{subresource}{group}{object}{at}", word(&decision.verb)))
}

fn why(decision: &Decision) -> String {
    let allowed_by = || decision.policy.as_ref().map(|policy| format!("allowed by {policy}"));
    let reason = decision.reason.clone().or_else(allowed_by);
    let ended = decision.close_reason.as_ref().map(|reason| format!("ended: {reason}"));
    clean(&[reason, ended].into_iter().flatten().collect::<Vec<_>>().join("; "))
}

/// All of it as text, its columns in line.
pub(super) fn plain(board: &Board, admin: &str) -> String {
    let mut text: String = head(board, admin).into_iter().map(|(line, _)| line + "\n").collect();
    for sheet in [plugins(board, false), clusters(board), decisions(board, usize::MAX, false)] {
        text.push('\n');
        if sheet.rows.is_empty() {
            text.push_str(&format!("{}: none\n", sheet.title));
            continue;
        }
        let widths = sheet.widths();
        let names = sheet.columns.iter().map(|column| column.name.to_owned()).collect();
        let rows = std::iter::once(names).chain(sheet.rows.into_iter().map(|row| row.cells));
        for cells in rows {
            let cells = cells.into_iter().zip(widths.iter().copied()).zip(sheet.columns);
            let line: Vec<_> = cells
                .map(|((cell, width), column)| match column.is_number {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                })
                .collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
    }
    text
}

impl Sheet {
    /// What the longest cell of each column takes.
    pub(super) fn widths(&self) -> Vec<usize> {
        let cell = |row: &Row, index: usize| row.cells.get(index).map_or(0, |cell| cell.chars().count());
        let widest = |index| self.rows.iter().map(|row| cell(row, index)).max().unwrap_or_default();
        self.columns.iter().enumerate().map(|(index, column)| widest(index).max(column.name.len())).collect()
    }
}

const fn text(name: &'static str, wide: u16) -> Column {
    Column { name, wide, is_number: false }
}

const fn number(name: &'static str) -> Column {
    Column { name, wide: 0, is_number: true }
}

/// Text that moves nothing in a terminal: control characters, and those that turn the direction of writing, are replaced.
fn clean(text: &str) -> String {
    let moves = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|character| if moves(character) { '\u{fffd}' } else { character }).collect()
}

/// The time of day, in UTC as the log has it.
fn clock(time: &str) -> String {
    clean(time.get(11..19).unwrap_or(time))
}

fn took(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 0.01 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.1} s"),
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::top::board::tests::{decision, look};
    use crate::top::looking::Decisions;

    /// Goal: what `--once` prints is as it is documented. Method: a snapshot of a gate with a bit of everything.
    #[test]
    fn a_look_is_printed_in_columns() {
        let (mut board, start) = (Board::default(), Instant::now());
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        board.learn(look(start, 4, since - 7_300));
        board.learn(look(start + Duration::from_secs(2), 9, since - 7_300));
        let decisions = vec![decision("1", "allow", "jane"), decision("2", "deny", "evil\u{1b}[2J\r\n\u{202e}name")];
        board.decided(Decisions { decisions });
        insta::assert_snapshot!(plain(&board, "http://127.0.0.1:7008"), @r#"
        witgate 0.1.0 at http://127.0.0.1:7008: generation 3, ready, up 2 h
        requests 11 (2.5/s), allowed 9 (2.5/s), denied 2 (0.0/s), in flight 4, streams 0, memory 80 MiB
        rolled back to what generation 2 served; the plug-in folder holds something else
        the reload of 03:04:05 was refused: tenancy.wasm: not a component

        PLUG-IN         KIND      MODE     GEN  CALLS    P50     P99  FAILED  NOTE
        read-only       policy    shadow     3      0      -       -       0  of 7 decisions would deny 2, would allow 0, fail 0
        tenancy         policy    enforce    2     10  10 µs  2.5 ms       1  its newest version does not serve: tenancy.wasm: not a component; not asked for 1 caller
        serviceAccount  strategy  -          1      7      -       -       0

        CLUSTER  STRATEGY        REQUESTS  IN FLIGHT  ERRORS    P99  STATE
        one      serviceAccount        11          4       0  10 ms  no error
        two      aks                    0          0       0      -  its API server is not reached

        TIME      DECISION  USER             REQUEST             WHY                               STATUS  MS
        03:04:05  deny      evil�[2J���name  get pods dev @ one  denied by policy `read-only`: no     403   3
        03:04:05  allow     jane             get pods dev @ one  allowed by read-only                 200   3
        "#);
    }

    /// Goal: times are short, and never more exact than they are. Method: rows.
    #[test]
    fn times_are_short() {
        let check = |seconds: f64, expected| assert_eq!(took(Some(seconds)), expected);
        check(0.000_005, "5 µs");
        check(0.002_5, "2.5 ms");
        check(0.05, "50 ms");
        check(10.0, "10.0 s");
        assert_eq!((took(None).as_str(), ago(7_300).as_str(), ago(119).as_str()), ("-", "2 h", "119 s"));
    }
}
