//! Gathers what is wrong with one file, and what its reader should know.
//!
//! Every text names the file, the line and the key. Nothing here stops the reading:
//! an operator sees all problems at once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;

/// The problems and notes of one file.
pub(super) struct Report {
    file: String,
    problems: RefCell<Vec<(u64, String)>>,
    notes: RefCell<Vec<(u64, String)>>,
    /// The files that say what the configuration is, this one first.
    files: RefCell<BTreeSet<PathBuf>>,
}

impl Report {
    /// A report on `file`, as the operator wrote its path.
    pub(super) const fn new(file: String) -> Self {
        Self {
            file,
            problems: RefCell::new(Vec::new()),
            notes: RefCell::new(Vec::new()),
            files: RefCell::new(BTreeSet::new()),
        }
    }

    /// Something that a start refuses. Line 0: it stands on no line.
    pub(super) fn problem(&self, line: u64, key: &str, text: impl Display) {
        self.problems.borrow_mut().push((line, format!("{}: {text}", self.place(line, key))));
    }

    /// Something that is ignored, defaulted or risky.
    pub(super) fn note(&self, line: u64, key: &str, text: impl Display) {
        self.notes.borrow_mut().push((line, format!("{}: {text}", self.place(line, key))));
    }

    /// The configuration stands in this file too: when it changes, so does the configuration.
    pub(super) fn reads(&self, file: PathBuf) {
        self.files.borrow_mut().insert(file);
    }

    /// The files that were read so far.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.borrow().iter().cloned().collect()
    }

    /// `witgate.yaml:3: listen`, as each text begins.
    pub(super) fn place(&self, line: u64, key: &str) -> String {
        let mut place = self.file.clone();
        if line > 0 {
            place.push_str(&format!(":{line}"));
        }
        if !key.is_empty() {
            place.push_str(": ");
            place.push_str(key);
        }
        place
    }

    /// Takes over what another file's reading found, as standing on `line` of this one.
    pub(super) fn absorb(&self, line: u64, other: Self) {
        self.files.borrow_mut().append(&mut other.files.borrow_mut());
        let (problems, notes) = other.finish();
        self.problems.borrow_mut().extend(problems.into_iter().map(|text| (line, text)));
        self.notes.borrow_mut().extend(notes.into_iter().map(|text| (line, text)));
    }

    /// The problems and the notes, each in the order of the file.
    pub(super) fn finish(self) -> (Vec<String>, Vec<String>) {
        let in_order = |texts: RefCell<Vec<(u64, String)>>| {
            let mut texts = texts.into_inner();
            texts.sort_by_key(|(line, _)| *line);
            // Two contexts of one kubeconfig may find the same problem.
            let mut said = BTreeSet::new();
            texts.retain(|(_, text)| said.insert(text.clone()));
            texts.into_iter().map(|(_, text)| text).collect()
        };
        (in_order(self.problems), in_order(self.notes))
    }
}
