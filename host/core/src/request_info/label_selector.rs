//! Label selectors, as far as RequestInfo needs them: whether the API server can read one.
//!
//! Where it cannot, it falls back to options without any selector, so a name in the
//! field selector beside it does not count. By the rules of `k8s.io/apimachinery/pkg/labels`.

/// Whether `selector` is one that `labels.Parse` takes.
pub(super) fn is_well_formed(selector: &str) -> bool {
    let mut parser = Parser { rest: selector, peeked: None };
    parser.selector().is_some()
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token<'a> {
    End,
    Open,
    Close,
    Comma,
    Not,
    /// `=`, `==` or `!=`
    Equality,
    /// `>` or `<`
    Comparison,
    /// An identifier; `in` and `notin` too, which only their place makes operators.
    Word(&'a str),
}

/// Reads a selector by descent. `None` anywhere means malformed.
struct Parser<'a> {
    rest: &'a str,
    peeked: Option<Token<'a>>,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Option<()> {
        if self.peek() == Token::End {
            return Some(());
        }
        loop {
            self.requirement()?;
            match self.next() {
                Token::End => return Some(()),
                Token::Comma => {} // a requirement must follow
                Token::Open | Token::Close | Token::Not | Token::Equality | Token::Comparison | Token::Word(_) => {
                    return None;
                }
            }
        }
    }

    fn requirement(&mut self) -> Option<()> {
        let (key, negated) = match self.next() {
            Token::Not => (self.next(), true),
            token => (token, false),
        };
        let Token::Word(key) = key else { return None };
        if !is_qualified_name(key) {
            return None;
        }
        if negated || matches!(self.peek(), Token::End | Token::Comma) {
            return Some(()); // the key's presence alone
        }
        match self.next() {
            Token::Word("in" | "notin") => self.values(),
            Token::Equality => is_label_value(self.value()?).then_some(()),
            Token::Comparison => {
                let value = self.value()?;
                (is_label_value(value) && value.parse::<i64>().is_ok()).then_some(())
            }
            Token::Word(_) | Token::End | Token::Open | Token::Close | Token::Comma | Token::Not => None,
        }
    }

    /// One value; none at all is the empty one.
    fn value(&mut self) -> Option<&'a str> {
        match self.peek() {
            Token::End | Token::Comma => Some(""),
            Token::Word(_) | Token::Open | Token::Close | Token::Not | Token::Equality | Token::Comparison => {
                let Token::Word(value) = self.next() else { return None };
                Some(value)
            }
        }
    }

    /// `(a,b)`; values may be empty, `(,)` and `()` too.
    fn values(&mut self) -> Option<()> {
        if self.next() != Token::Open {
            return None;
        }
        if self.peek() == Token::Close {
            self.next();
            return Some(());
        }
        loop {
            match self.next() {
                Token::Word(value) if is_label_value(value) => match self.peek() {
                    Token::Comma => {}
                    Token::Close => break,
                    _ => return None,
                },
                // A comma stands for itself and for one more right behind it: `(a,,b)`.
                Token::Comma => match self.peek() {
                    Token::Close => break,
                    Token::Comma => {
                        self.next();
                    }
                    _ => {}
                },
                _ => return None,
            }
        }
        self.next();
        Some(())
    }

    fn peek(&mut self) -> Token<'a> {
        let token = self.next();
        self.peeked = Some(token);
        token
    }

    fn next(&mut self) -> Token<'a> {
        match self.peeked.take() {
            Some(token) => token,
            None => self.lex(),
        }
    }

    /// The next token. Once it is the end, it stays the end.
    // The original takes a NUL byte for the end of the text where a token may begin, and swallows one behind a token.
    fn lex(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches(is_space);
        let Some(first) = self.rest.chars().next().filter(|&first| first != '\0') else { return Token::End };
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '>' | '<' => (Token::Comparison, 1),
            '=' if self.rest.starts_with("==") => (Token::Equality, 2),
            '=' => (Token::Equality, 1),
            '!' if self.rest.starts_with("!=") => (Token::Equality, 2),
            '!' => (Token::Not, 1),
            _ => {
                let ends = |character| is_space(character) || is_special(character) || character == '\0';
                let word = self.rest.split(ends).next().unwrap_or("");
                (Token::Word(word), word.len())
            }
        };
        let after = self.rest.get(length..).unwrap_or("");
        self.rest = after.strip_prefix('\0').unwrap_or(after);
        token
    }
}

const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

const fn is_special(character: char) -> bool {
    matches!(character, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

/// `[prefix/]name`, as label keys are.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_dns_subdomain)
}

/// Up to 63 of letters, digits, `-`, `_` and `.`, alphanumeric at both ends; or nothing.
fn is_label_value(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |character: char| character.is_ascii_alphanumeric();
    value.is_empty()
        || value.len() <= 63 && value.bytes().all(inner) && value.starts_with(ends) && value.ends_with(ends)
}

fn is_dns_subdomain(name: &str) -> bool {
    let ends = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && label.starts_with(ends)
                && label.ends_with(ends)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what `labels.Parse` takes. Method: rows, most of them from its grammar.
    #[test]
    fn a_selector_of_the_grammar_is_well_formed() {
        for selector in [
            "",
            " ",
            "x",
            "!x",
            "x=a",
            "x = a",
            "x==a,y!=b",
            "x=",
            "x=,y",
            "x!=",
            "x in (a,b)",
            "x notin (a)",
            "x in ()",
            "x in (,)",
            "x in (a,,b)",
            "x in (a,)",
            "in in (in,notin)",
            "x>5,y<7",
            "example.com/x=a",
            "x\u{0}",
            "\u{0}!!!",
            "!\u{0}x",
            "x\u{0}=a",
        ] {
            assert!(is_well_formed(selector), "{selector:?}");
        }
    }

    /// Goal: what it does not take. Method: rows.
    #[test]
    fn another_selector_is_malformed() {
        for selector in [
            ",",
            "x,",
            ",x",
            "!",
            "!!x",
            "!x=a",
            "x=a=b",
            "x===a",
            "x a",
            "x in",
            "x in a",
            "x in (",
            "x in (a",
            "x in (a b)",
            "x in (a))",
            "x in (=)",
            "x in (,,)",
            "x>a",
            "x>",
            "x>-5",
            "x=a b",
            "-x",
            "x=-a",
            "x=a/b",
            "a/b/c",
            "/x",
            "x/",
            "A.b/c",
            "a..b/c",
            "é",
            "x=!",
            "(",
            ")",
        ] {
            assert!(!is_well_formed(selector), "{selector:?}");
        }
        assert!(is_well_formed(&"x".repeat(63)));
        assert!(!is_well_formed(&"x".repeat(64)));
    }
}
