//! Conditional decisions, written as they are thought.
//!
//! The contract wants "any of (all of …)". An [`Expression`] may nest any-of, all-of and not as it likes;
//! [`allow_if`] unfolds it.
//!
//! ```
//! use witgate_sdk::ActionClass::Read;
//! use witgate_sdk::condition::{all_of, allow_if, is_action, is_cluster, is_namespace, not};
//!
//! // Reading in staging, but not in kube-system.
//! let decision = allow_if(all_of([is_cluster(["staging"]), is_action([Read]), not(is_namespace(["kube-system"]))]));
//! ```

use crate::{ActionClass, Condition, Conditional, Decision};

/// What must hold of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expression(Node);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Node {
    Rule(Condition),
    AllOf(Vec<Expression>),
    AnyOf(Vec<Expression>),
    Not(Box<Expression>),
}

/// An expression that cannot be sent to the host.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Unsendable {
    Empty,
    TooManyAlternatives,
}

/// Allows where `expression` holds, and has no opinion elsewhere.
///
/// An empty `any_of` or `all_of` is more likely a mistake than a wish, and the contract has no word for it; so is one
/// that unfolds into more than 1024 alternatives. Both become a deny that says so.
pub fn allow_if(expression: Expression) -> Decision {
    match unfold(&expression, false) {
        Ok(any_of) => Decision::Conditional(Conditional { any_of, reusable_for: None }),
        Err(Unsendable::Empty) => Decision::Deny("the policy gave an empty list of conditions".to_owned()),
        Err(Unsendable::TooManyAlternatives) => {
            Decision::Deny(format!("the policy's conditions unfold into more than {ALTERNATIVES_MAX} alternatives"))
        }
    }
}

impl Decision {
    /// Promises the same conditional answer to every query of this user for this permission, for so many seconds. Other
    /// decisions are left as they are.
    #[must_use]
    pub fn reusable_for(self, seconds: u32) -> Self {
        match self {
            Self::Conditional(conditional) => {
                Self::Conditional(Conditional { reusable_for: Some(seconds), ..conditional })
            }
            Self::Allow | Self::Deny(_) | Self::NoOpinion => self,
        }
    }
}

/// The cluster is one of these.
pub fn is_cluster<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Expression {
    rule("IS_CLUSTER", "clusters", names)
}

/// The namespace is one of these; the empty text stands for requests outside a namespace.
pub fn is_namespace<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Expression {
    rule("IS_NAMESPACE", "namespaces", names)
}

/// The resource is one of these plurals, such as `pods`.
pub fn is_resource_type<T: Into<String>>(resources: impl IntoIterator<Item = T>) -> Expression {
    rule("IS_RESOURCE_TYPE", "resourceTypes", resources)
}

/// The action class is one of these.
pub fn is_action(classes: impl IntoIterator<Item = ActionClass>) -> Expression {
    rule("IS_ACTION", "actions", classes.into_iter().map(ActionClass::as_str))
}

/// Kubernetes' verb is one of these.
pub fn is_verb<T: Into<String>>(verbs: impl IntoIterator<Item = T>) -> Expression {
    rule("IS_VERB", "verbs", verbs)
}

/// Every one holds.
pub fn all_of(expressions: impl IntoIterator<Item = Expression>) -> Expression {
    Expression(Node::AllOf(expressions.into_iter().collect()))
}

/// At least one holds.
pub fn any_of(expressions: impl IntoIterator<Item = Expression>) -> Expression {
    Expression(Node::AnyOf(expressions.into_iter().collect()))
}

/// It does not hold.
pub fn not(expression: Expression) -> Expression {
    Expression(Node::Not(Box::new(expression)))
}

fn rule<T: Into<String>>(rule: &str, param: &str, values: impl IntoIterator<Item = T>) -> Expression {
    let values = values.into_iter().map(Into::into).collect();
    Expression(Node::Rule(Condition {
        rule: rule.to_owned(),
        params: vec![(param.to_owned(), values)],
        negated: false,
    }))
}

type AnyOf = Vec<Vec<Condition>>;

/// The disjunctive normal form; `negated` carries the nots down to the rules (De Morgan).
fn unfold(expression: &Expression, negated: bool) -> Result<AnyOf, Unsendable> {
    match (&expression.0, negated) {
        (Node::Rule(condition), _) => {
            Ok(vec![vec![Condition { negated: condition.negated != negated, ..condition.clone() }]])
        }
        (Node::Not(inner), _) => unfold(inner, !negated),
        (Node::AnyOf(parts), false) | (Node::AllOf(parts), true) => either(parts, negated),
        (Node::AllOf(parts), false) | (Node::AnyOf(parts), true) => both(parts, negated),
    }
}

fn either(parts: &[Expression], negated: bool) -> Result<AnyOf, Unsendable> {
    let mut alternatives = Vec::new();
    for part in parts {
        alternatives.extend(unfold(part, negated)?);
        bounded(alternatives.len())?;
    }
    if alternatives.is_empty() { Err(Unsendable::Empty) } else { Ok(alternatives) }
}

fn both(parts: &[Expression], negated: bool) -> Result<AnyOf, Unsendable> {
    let mut product: Option<AnyOf> = None;
    for part in parts {
        let factor = unfold(part, negated)?;
        product = Some(match product {
            None => factor,
            Some(product) => {
                bounded(product.len().saturating_mul(factor.len()))?;
                let pair = |left: &Vec<Condition>, right: &Vec<Condition>| [left.as_slice(), right].concat();
                product.iter().flat_map(|left| factor.iter().map(move |right| pair(left, right))).collect()
            }
        });
    }
    product.ok_or(Unsendable::Empty)
}

const fn bounded(alternatives: usize) -> Result<(), Unsendable> {
    if alternatives > ALTERNATIVES_MAX { Err(Unsendable::TooManyAlternatives) } else { Ok(()) }
}

/// Nested lists multiply: this bounds what a policy makes of settings that it did not write.
const ALTERNATIVES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every nesting unfolds to any-of all-of. Method: rows, printed as sums of products.
    #[test]
    fn expressions_unfold() {
        check(c("a"), "a");
        check(not(c("a")), "!a");
        check(not(not(c("a"))), "a");
        check(all_of([c("a"), c("b")]), "a&b");
        check(any_of([c("a"), c("b")]), "a | b");
        check(not(any_of([c("a"), c("b")])), "!a&!b");
        check(not(all_of([c("a"), c("b")])), "!a | !b");
        check(all_of([c("a"), any_of([c("b"), c("c")])]), "a&b | a&c");
        check(all_of([any_of([c("a"), c("b")]), any_of([c("c"), c("d")])]), "a&c | a&d | b&c | b&d");
        check(any_of([c("a"), not(all_of([c("b"), not(c("c"))]))]), "a | !b | c");
    }

    /// Goal: what the contract cannot say fails closed, wherever it is nested. Method: rows.
    #[test]
    fn mistakes_deny() {
        let empty = "deny: the policy gave an empty list of conditions";
        check(any_of([]), empty);
        check(all_of([]), empty);
        check(not(any_of([])), empty);
        check(any_of([c("a"), all_of([])]), empty);
        check(all_of([c("a"), not(all_of([]))]), empty);
        let pair = || any_of([c("a"), c("b")]);
        check(all_of((0..11).map(|_| pair())), "deny: the policy's conditions unfold into more than 1024 alternatives");
        assert!(matches!(allow_if(all_of((0..10).map(|_| pair()))), Decision::Conditional(_)), "1024 fit");
    }

    #[test]
    fn each_rule_has_its_parameter() {
        let rules = [
            (is_cluster(["x"]), "IS_CLUSTER clusters"),
            (is_namespace(["x"]), "IS_NAMESPACE namespaces"),
            (is_resource_type(["x"]), "IS_RESOURCE_TYPE resourceTypes"),
            (is_action([ActionClass::Read]), "IS_ACTION actions"),
            (is_verb(["x"]), "IS_VERB verbs"),
        ];
        for (expression, expected) in rules {
            let Decision::Conditional(conditional) = allow_if(expression).reusable_for(60) else {
                panic!("{expected}")
            };
            assert_eq!(conditional.reusable_for, Some(60));
            let condition = &conditional.any_of[0][0];
            assert_eq!(format!("{} {}", condition.rule, condition.params[0].0), expected);
        }
    }

    fn c(name: &str) -> Expression {
        is_cluster([name])
    }

    #[track_caller]
    fn check(expression: Expression, expected: &str) {
        let got = match allow_if(expression) {
            Decision::Conditional(conditional) => {
                let all_of = |all: &Vec<Condition>| all.iter().map(shown).collect::<Vec<_>>().join("&");
                conditional.any_of.iter().map(all_of).collect::<Vec<_>>().join(" | ")
            }
            Decision::Deny(reason) => format!("deny: {reason}"),
            other => format!("{other:?}"),
        };
        assert_eq!(got, expected);
    }

    fn shown(condition: &Condition) -> String {
        format!("{}{}", if condition.negated { "!" } else { "" }, condition.params[0].1[0])
    }
}
