//! The terminal view: draws the board, and listens to keys.
//!
//! Two tasks bring what is new, one by looking again and again and one by following the decisions; a thread reads keys, as
//! terminals are read by waiting. All three end with the view. The terminal is as it was when it ends, a panic included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::TopArgs;
use super::board::Board;
use super::client;
use super::looking::{Decision, Decisions, Look, look};
use super::sheet::{self, Sheet, Tone};
use crate::admin_client::AdminOptions;

/// What is shown, and how.
struct View {
    board: Board,
    admin: String,
    is_paused: bool,
    denied_alone: bool,
    with_unused: bool,
}

/// What happened.
enum News {
    Looked(anyhow::Result<Look>),
    Decided(Box<Decision>),
    Key(KeyCode),
    /// The terminal has another size.
    Resized,
    /// Ctrl-C, or a terminal that is gone.
    End,
}

/// Shows the gate until somebody ends it.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) async fn run(first: Look, args: &TopArgs) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let ended = show(&mut terminal, first, args).await;
    ratatui::restore();
    ended
}

async fn show(terminal: &mut DefaultTerminal, first: Look, args: &TopArgs) -> anyhow::Result<()> {
    let (tell, mut news) = mpsc::channel(NEWS_MAX);
    let mut tasks = JoinSet::new();
    tasks.spawn(keep_looking(args.admin.clone(), args.interval, tell.clone()));
    tasks.spawn(keep_following(args.admin.clone(), tell.clone()));
    let _keys = Keys::listen(tell);
    let mut view = View::new(args.admin.place());
    view.board.learn(first);
    loop {
        terminal.draw(|frame| view.draw(frame)).context("the terminal cannot be drawn on")?;
        let Some(mut next) = news.recv().await else { return Ok(()) };
        // All that is there, and then one picture of it.
        loop {
            if view.hear(next).is_end() {
                return Ok(());
            }
            match news.try_recv() {
                Ok(another) => next = another,
                Err(_) => break,
            }
        }
    }
}

/// Whether the view goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Goes {
    On,
    ToEnd,
}

impl Goes {
    const fn is_end(self) -> bool {
        matches!(self, Self::ToEnd)
    }
}

impl View {
    fn new(admin: String) -> Self {
        Self { board: Board::default(), admin, is_paused: false, denied_alone: false, with_unused: false }
    }

    fn hear(&mut self, news: News) -> Goes {
        match news {
            News::End | News::Key(KeyCode::Char('q') | KeyCode::Esc) => return Goes::ToEnd,
            News::Key(KeyCode::Char('p')) => self.is_paused = !self.is_paused,
            News::Key(KeyCode::Char('d')) => self.denied_alone = !self.denied_alone,
            News::Key(KeyCode::Char('b')) => self.with_unused = !self.with_unused,
            News::Key(_) | News::Resized => {}
            News::Looked(_) | News::Decided(_) if self.is_paused => {}
            News::Looked(Ok(look)) => self.board.learn(look),
            News::Looked(Err(error)) => self.board.trouble = Some(format!("{error:#}")),
            News::Decided(decision) => self.board.decided(Decisions { decisions: vec![*decision] }),
        }
        Goes::On
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let mut head: Vec<_> = sheet::head(&self.board, &self.admin)
            .into_iter()
            .map(|(line, tone)| Line::styled(line, style(tone)))
            .collect();
        if let Some(trouble) = &self.board.trouble {
            head.push(Line::styled(format!("stale: {trouble}"), style(Tone::Bad)));
        }
        let plugins = sheet::plugins(&self.board, self.with_unused);
        let clusters = sheet::clusters(&self.board);
        // A title, the columns' names, the rows, and an empty line.
        let height = |sheet: &Sheet, most: usize| u16::try_from(sheet.rows.len().min(most) + 3).unwrap_or(u16::MAX);
        let third = usize::from(frame.area().height / 3);
        let [head_area, plugins_area, clusters_area, decisions_area, keys_area] = Layout::vertical([
            Constraint::Length(u16::try_from(head.len() + 1).unwrap_or(u16::MAX)),
            Constraint::Length(height(&plugins, third)),
            Constraint::Length(height(&clusters, third / 2)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(Text::from(head)), head_area);
        let decisions = sheet::decisions(&self.board, usize::from(decisions_area.height), self.denied_alone);
        for (sheet, area) in [(plugins, plugins_area), (clusters, clusters_area), (decisions, decisions_area)] {
            let title = if sheet.title == "Decisions" && self.denied_alone { "Decisions, denied" } else { sheet.title };
            let [title_area, table_area] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
            frame.render_widget(Line::styled(title, Style::new().add_modifier(Modifier::BOLD)), title_area);
            frame.render_widget(table(sheet), table_area);
        }
        let on = |is_on: bool, text: &'static str, instead: &'static str| if is_on { instead } else { text };
        let keys = format!(
            " q ends   p {}   d {}   b {}",
            on(self.is_paused, "pauses", "goes on (paused)"),
            on(self.denied_alone, "denied alone", "all decisions"),
            on(self.with_unused, "all built-ins", "fewer built-ins"),
        );
        frame.render_widget(Line::styled(keys, Style::new().add_modifier(Modifier::REVERSED)), keys_area);
    }
}

fn table(sheet: Sheet) -> Table<'static> {
    let widths = sheet.columns.iter().zip(sheet.widths()).map(|(column, width)| match column.wide {
        0 => Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)),
        share => Constraint::Fill(share),
    });
    let widths: Vec<_> = widths.collect();
    let columns = sheet.columns;
    let cell = move |text: String, index: usize| {
        let is_number = columns.get(index).is_some_and(|column| column.is_number);
        let alignment = if is_number { Alignment::Right } else { Alignment::Left };
        Cell::from(Text::from(text).alignment(alignment))
    };
    let line =
        move |cells: Vec<String>| TableRow::new(cells.into_iter().enumerate().map(|(index, text)| cell(text, index)));
    let names = columns.iter().map(|column| column.name.to_owned()).collect();
    let rows: Vec<_> = sheet.rows.into_iter().map(|row| line(row.cells).style(style(row.tone))).collect();
    Table::new(rows, widths).header(line(names).style(Style::new().add_modifier(Modifier::DIM))).column_spacing(2)
}

/// The words say it too: colours are for the eye that looks for what is wrong.
const fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Odd => Style::new().fg(Color::Yellow),
    }
}

async fn keep_looking(admin: AdminOptions, interval: Duration, tell: mpsc::Sender<News>) {
    let mut pace = tokio::time::interval(interval);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pace.tick().await;
    loop {
        pace.tick().await;
        if tell.send(News::Looked(look(&admin).await)).await.is_err() {
            return;
        }
    }
}

/// Follows, and again where it ends: a gate that restarts comes back.
async fn keep_following(admin: AdminOptions, tell: mpsc::Sender<News>) {
    loop {
        let hear = |data: &str| {
            if let Ok(decision) = serde_json::from_str::<Decision>(data) {
                // More than are drawn at once: the newest are what counts, and they come.
                let _ = tell.try_send(News::Decided(Box::new(decision)));
            }
        };
        // That the gate does not answer is what the looks say.
        let _ = client::follow(&admin, FOLLOWED, SILENCE_MAX, hear).await;
        if tell.is_closed() {
            return;
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

/// Reads keys until it is dropped.
struct Keys(Arc<AtomicBool>);

impl Keys {
    fn listen(tell: mpsc::Sender<News>) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let news = match event::poll(KEY_WAIT).and_then(|is_there| is_there.then(event::read).transpose()) {
                    Ok(None) => continue,
                    Ok(Some(event)) => match heard(&event) {
                        Some(news) => news,
                        None => continue,
                    },
                    Err(_) => News::End,
                };
                if tell.blocking_send(news).is_err() {
                    return;
                }
            }
        });
        Self(ended)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn heard(event: &Event) -> Option<News> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => {
            let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
            Some(if is_interrupt { News::End } else { News::Key(key.code) })
        }
        Event::Resize(..) => Some(News::Resized),
        _ => None,
    }
}

/// News that may wait to be drawn.
const NEWS_MAX: usize = 1_024;
/// How long a key is waited for before it is asked whether the view has ended.
const KEY_WAIT: Duration = Duration::from_millis(100);
const FOLLOW_PAUSE: Duration = Duration::from_secs(1);
/// Three of the gate's signs of life.
const SILENCE_MAX: Duration = Duration::from_secs(45);
const FOLLOWED: &str = "/decisions?follow=1&limit=100";

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::board::tests::{decision, look as looked};

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn view() -> View {
        let mut view = View::new("http://127.0.0.1:7008".to_owned());
        let start = Instant::now();
        view.hear(News::Looked(Ok(looked(start, 4, 0))));
        view.hear(News::Looked(Ok(looked(start + Duration::from_secs(2), 9, 0))));
        view.hear(News::Decided(Box::new(decision("1", "allow", "jane"))));
        view.hear(News::Decided(Box::new(decision("2", "deny", "john"))));
        view
    }

    /// Goal: what is drawn is what one should see. Method: a snapshot of a terminal with a bit of everything.
    #[test]
    fn a_gate_is_drawn() {
        insta::assert_snapshot!(drawn(&view(), 118, 24), @r#"
        "witgate 0.1.0 at http://127.0.0.1:7008: generation 3, ready                                                           "
        "requests 11 (2.5/s), allowed 9 (2.5/s), denied 2 (0.0/s), in flight 4, streams 0, memory 80 MiB                       "
        "rolled back to what generation 2 served; the plug-in folder holds something else                                      "
        "the reload of 03:04:05 was refused: tenancy.wasm: not a component                                                     "
        "                                                                                                                      "
        "Plug-ins                                                                                                              "
        "PLUG-IN         KIND      MODE     GEN  CALLS    P50     P99  FAILED  NOTE                                            "
        "read-only       policy    shadow     3      0      -       -       0  of 7 decisions would deny 2, would allow 0, fail"
        "tenancy         policy    enforce    2     10  10 µs  2.5 ms       1  its newest version does not serve: tenancy.wasm:"
        "serviceAccount  strategy  -          1      7      -       -       0                                                  "
        "                                                                                                                      "
        "Clusters                                                                                                              "
        "CLUSTER  STRATEGY        REQUESTS  IN FLIGHT  ERRORS    P99  STATE                                                    "
        "one      serviceAccount        11          4       0  10 ms  no error                                                 "
        "two      aks                    0          0       0      -  its API server is not reached                            "
        "                                                                                                                      "
        "Decisions                                                                                                             "
        "TIME      DECISION  USER                   REQUEST                         WHY                              STATUS  MS"
        "03:04:05  deny      john                   get pods dev @ one              denied by policy `read-only`: n     403   3"
        "03:04:05  allow     jane                   get pods dev @ one              allowed by read-only                200   3"
        "                                                                                                                      "
        "                                                                                                                      "
        "                                                                                                                      "
        " q ends   p pauses   d denied alone   b all built-ins                                                                 "
        "#);
    }

    /// Goal: keys do what the footer says, and the footer what they do next. Method: each key, and what is drawn then.
    #[test]
    fn keys_do_what_the_footer_says() {
        let mut view = view();
        let press = |view: &mut View, key| view.hear(News::Key(KeyCode::Char(key)));
        press(&mut view, 'd');
        let denied = drawn(&view, 118, 24);
        assert!(denied.contains("Decisions, denied") && !denied.contains("jane") && denied.contains("d all decisions"));
        press(&mut view, 'b');
        assert!(drawn(&view, 118, 24).contains("aks "));
        press(&mut view, 'p');
        view.hear(News::Decided(Box::new(decision("3", "deny", "late"))));
        assert!(!drawn(&view, 118, 24).contains("late") && drawn(&view, 118, 24).contains("p goes on (paused)"));
        view.hear(News::Looked(Err(anyhow::anyhow!("no connection"))));
        press(&mut view, 'p');
        view.hear(News::Looked(Err(anyhow::anyhow!("no connection"))));
        assert!(drawn(&view, 118, 24).contains("stale: no connection"));
        assert_eq!(press(&mut view, 'x'), Goes::On);
        assert_eq!(press(&mut view, 'q'), Goes::ToEnd);
    }

    /// Goal: no size is too small to draw on. Method: all small ones.
    #[test]
    fn a_small_terminal_is_drawn_on() {
        for (width, height) in [(1, 1), (20, 3), (40, 8), (80, 12), (300, 4)] {
            drawn(&view(), width, height);
        }
    }
}
