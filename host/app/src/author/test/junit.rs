//! The report that CI systems read.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context as _;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Outcome, SuiteOutcome};

/// Writes the outcomes as JUnit's XML, one suite a file of cases.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn write(path: &Path, suites: &[SuiteOutcome]) -> anyhow::Result<()> {
    let mut report = Report::new("witgate plugin test");
    for SuiteOutcome { name, outcomes, error } in suites {
        let mut suite = TestSuite::new(name.as_str());
        for Outcome { name: case, took, failure, .. } in outcomes {
            let status = match failure {
                None => TestCaseStatus::success(),
                Some(text) => of(NonSuccessKind::Failure, text),
            };
            let mut case = TestCase::new(case.as_str(), status);
            case.set_classname(name.as_str()).set_time(*took);
            suite.add_test_case(case);
        }
        if let Some(error) = error {
            let mut case = TestCase::new("the file of cases", of(NonSuccessKind::Error, error));
            case.set_classname(name.as_str());
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    let cannot = || format!("{} cannot be written", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(cannot)?);
    report.serialize(&mut file).with_context(cannot)?;
    file.flush().with_context(cannot)
}

fn of(kind: NonSuccessKind, text: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let got = text.lines().find_map(|line| line.strip_prefix("got ")).map_or(text, str::trim);
    status.set_message(got.lines().next().unwrap_or_default()).set_description(text);
    status
}
