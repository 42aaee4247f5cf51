//! How the contract's words print and are written in settings.

use std::fmt;
use std::str::FromStr;

use crate::ActionClass;

impl ActionClass {
    /// Every class, from the mildest to the gravest.
    pub const ALL: [Self; 6] = [Self::Read, Self::Write, Self::Delete, Self::Exec, Self::Credential, Self::Escalate];

    /// The contract's spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Exec => "exec",
            Self::Credential => "credential",
            Self::Escalate => "escalate",
        }
    }
}

impl fmt::Display for ActionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActionClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or_else(|| {
            format!("unknown action class `{text}`; known are read, write, delete, exec, credential and escalate")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the contract's words, both ways: conditions and settings are compared by them.
    #[test]
    fn an_action_class_reads_as_it_prints() {
        let words = ["read", "write", "delete", "exec", "credential", "escalate"];
        for (class, word) in ActionClass::ALL.into_iter().zip(words) {
            assert_eq!(class.to_string(), word);
            assert_eq!(word.parse(), Ok(class));
        }
        assert!("Read".parse::<ActionClass>().is_err());
    }
}
