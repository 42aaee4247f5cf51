//! STS's answers: XML of which a few texts count.
//!
//! Whatever is not plain elements and text is refused: no document type, so no entities of its own, no processing
//! instructions, no CDATA; and no more of it than an answer of STS has.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesRef, Event};

/// An answer is not what STS sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Malformed;

impl From<quick_xml::Error> for Malformed {
    fn from(_: quick_xml::Error) -> Self {
        Self
    }
}

/// The texts of an answer, each with the path of its element: `ErrorResponse/Error/Code`.
pub(crate) struct Answer(Vec<(String, String)>);

impl Answer {
    /// Reads an answer.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        if body.len() > ANSWER_BYTES_MAX {
            return Err(Malformed);
        }
        let mut reader = Reader::from_reader(body);
        let (mut texts, mut open, mut roots) = (Vec::new(), Vec::<Element>::new(), 0_usize);
        loop {
            match reader.read_event()? {
                Event::Start(start) => {
                    if open.is_empty() {
                        roots += 1;
                    } else if let Some(parent) = open.last_mut() {
                        parent.has_children = true;
                    }
                    let name = std::str::from_utf8(start.local_name().into_inner()).map_err(|_| Malformed)?;
                    open.push(Element { name: name.to_owned(), text: String::new(), has_children: false });
                }
                Event::End(_) => {
                    let path = open.iter().map(|element| element.name.as_str()).collect::<Vec<_>>().join("/");
                    let element = open.pop().ok_or(Malformed)?;
                    if !element.has_children {
                        texts.push((path, element.text.trim().to_owned()));
                    } else if !element.text.trim().is_empty() {
                        return Err(Malformed);
                    }
                }
                Event::Empty(_) => roots += usize::from(open.is_empty()),
                Event::Text(text) => {
                    let text = text.xml_content().map_err(|_| Malformed)?;
                    match open.last_mut() {
                        Some(element) => element.text.push_str(&text),
                        None if text.trim().is_empty() => {}
                        None => return Err(Malformed),
                    }
                }
                Event::GeneralRef(reference) => {
                    let character = character(&reference)?;
                    open.last_mut().ok_or(Malformed)?.text.push(character);
                }
                Event::Decl(_) if roots == 0 && open.is_empty() => {}
                Event::Comment(_) => {}
                Event::Decl(_) | Event::DocType(_) | Event::PI(_) | Event::CData(_) => return Err(Malformed),
                Event::Eof => break,
            }
            if open.len() > DEPTH_MAX || texts.len() > TEXTS_MAX {
                return Err(Malformed);
            }
        }
        if open.is_empty() && roots == 1 { Ok(Self(texts)) } else { Err(Malformed) }
    }

    /// The text of the one element at `path`.
    pub(crate) fn text(&self, path: &str) -> Result<&str, Malformed> {
        let mut texts = self.0.iter().filter(|(known, _)| known == path).map(|(_, text)| text.as_str());
        match (texts.next(), texts.next()) {
            (Some(text), None) if !text.is_empty() => Ok(text),
            _ => Err(Malformed),
        }
    }
}

struct Element {
    name: String,
    text: String,
    has_children: bool,
}

/// One of the five names that XML itself gives, or a character by its number.
fn character(reference: &BytesRef<'_>) -> Result<char, Malformed> {
    if let Some(character) = reference.resolve_char_ref()? {
        return Ok(character);
    }
    let name = reference.decode().map_err(|_| Malformed)?;
    resolve_predefined_entity(&name).and_then(|text| text.chars().next()).ok_or(Malformed)
}

/// STS's answers have 2 KiB; a session token may have some more.
const ANSWER_BYTES_MAX: usize = 64 << 10;
const DEPTH_MAX: usize = 8;
const TEXTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the text at a path is found where it is there once, in an answer that is one. Method: rows.
    #[test]
    fn the_text_at_a_path() {
        check("<A><B>x</B></A>", Some("x"));
        check(
            "<?xml version=\"1.0\"?>\n<A xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n <B> x </B> </A>\n",
            Some("x"),
        );
        check("<A><!-- c --><B>a&amp;b&#x2F;&#43;</B></A>", Some("a&b/+"));
        check("<s:A xmlns:s=\"x\"><s:B>x</s:B></s:A>", Some("x"));
        for malformed in [
            "",
            "x",
            "{}",
            "<html><body>Bad gateway</body></html>",
            "<A><B>x</B>",
            "<A><B>x</A></B>",
            "<A><B></B></A>",
            "<A><B/></A>",
            "<A><B>x</B><B>y</B></A>",
            "<A><B>x</B></A><A><B>x</B></A>",
            "<A><B>x</B></A>trailing",
            "<A>mixed<B>x</B></A>",
            "<A><B>x<C/></B></A>".replace("<C/>", "<C></C>").as_str(),
            "<A><B>&unknown;</B></A>",
            "<A><B>a & b</B></A>",
            "<A><B><![CDATA[x]]></B></A>",
            "<A><?pi x?><B>x</B></A>",
            "<!DOCTYPE A><A><B>x</B></A>",
            BOMB,
            &format!("{}x{}", "<A>".repeat(9), "</A>".repeat(9)),
            &format!("<A>{}<B>x</B></A>", "<C>y</C>".repeat(64)),
            &format!("<A><B>{}</B></A>", "x".repeat(64 << 10)),
        ] {
            check(malformed, None);
        }
    }

    #[track_caller]
    fn check(xml: &str, expected: Option<&str>) {
        let answer = Answer::parse(xml.as_bytes());
        assert_eq!(answer.as_ref().ok().and_then(|answer| answer.text("A/B").ok()), expected, "{xml:.80}");
    }

    const BOMB: &str = "<!DOCTYPE A [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\
        <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><A><B>&c;</B></A>";
}
