//! Regorus draws its errors in several lines; the settings' faults and the log have one.

/// Where and what, of an error like
///
/// ```text
/// --> main:3:5
///   |
/// 3 | x :=
///   |     ^
/// error: expecting expression
/// ```
pub(crate) fn in_one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let place = text.lines().find_map(|line| line.trim_start().strip_prefix("--> ")).and_then(place);
    let told = text.lines().find_map(|line| line.trim_start().strip_prefix("error: "));
    match (place, told) {
        (Some((module, line, column)), Some(told)) => format!("{module}: line {line}, column {column}: {told}"),
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn place(text: &str) -> Option<(&str, &str, &str)> {
    let (rest, column) = text.trim_end().rsplit_once(':')?;
    let (module, line) = rest.rsplit_once(':')?;
    Some((module, line, column))
}
