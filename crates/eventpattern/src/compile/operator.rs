//! Parses one element of a pattern's array: a plain value or an operator object.

use std::net::Ipv6Addr;

use serde_json::{Map, Value as Json};

use super::{Compiler, path_step, type_name};
use crate::condition::{Cidr, Condition, Limit, Literal};
use crate::error::ErrorKind;
use crate::number::Number;
use crate::text::{Folded, Glob, GlobError};

/// The names of operators, to suggest one for a misspelled name.
const OPERATORS: [&str; 11] = [
    "prefix",
    "suffix",
    "anything-but",
    "numeric",
    "exists",
    "cidr",
    "equals-ignore-case",
    "wildcard",
    "shellstyle",
    "exactly",
    "$or",
];
const OPERATORS_TEXT: &str =
    "prefix, suffix, equals-ignore-case, wildcard, anything-but, numeric, exists, cidr, shellstyle";
/// Operators allowed inside `anything-but`.
const NEGATABLE: [&str; 4] = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
const NEGATABLE_TEXT: &str = "prefix, suffix, equals-ignore-case, wildcard";
/// Operators allowed inside `prefix` and `suffix`.
const FOLDING: [&str; 1] = ["equals-ignore-case"];
const FOLDING_TEXT: &str = "equals-ignore-case";

/// Similarity from which an operator is suggested: `prefx`, `equal-ignore-case` and `anythingbut`
/// reach it, `regex` does not.
const SIMILARITY_MIN: f64 = 0.8;

impl Compiler {
    pub(super) fn condition(&mut self, value: &Json) -> Option<Condition> {
        match value {
            Json::Object(operator) => self.operator(operator),
            Json::Array(_) => {
                self.report(ErrorKind::NotAValue { found: type_name(value) });
                None
            }
            scalar => Some(exact(scalar)),
        }
    }

    fn operator(&mut self, object: &Map<String, Json>) -> Option<Condition> {
        let (name, operand) = self.single_member(object)?;
        self.at(&path_step(name), |compiler| match name {
            "exactly" => compiler.string("exactly", operand).map(exact_text),
            "prefix" => compiler.affix(
                "prefix",
                operand,
                |text| Condition::Prefix(text.into()),
                Condition::PrefixFolded,
            ),
            "suffix" => compiler.affix(
                "suffix",
                operand,
                |text| Condition::Suffix(text.into()),
                Condition::SuffixFolded,
            ),
            "equals-ignore-case" => compiler.equals_ignore_case(operand),
            "wildcard" => compiler.glob("wildcard", operand),
            "shellstyle" => compiler.glob("shellstyle", operand),
            "anything-but" => compiler.anything_but(operand),
            "numeric" => compiler.numeric(operand),
            "exists" => match operand {
                Json::Bool(true) => Some(Condition::Present),
                Json::Bool(false) => Some(Condition::Missing),
                other => compiler.wrong_operand("exists", "true or false", other),
            },
            "cidr" => compiler.cidr(operand),
            unknown => compiler.unknown_operator(unknown, &OPERATORS, OPERATORS_TEXT),
        })
    }

    /// The only member of an operator object.
    fn single_member<'j>(&mut self, object: &'j Map<String, Json>) -> Option<(&'j str, &'j Json)> {
        let mut members = object.iter();
        match (members.next(), members.next()) {
            (Some((name, operand)), None) => Some((name, operand)),
            _ => {
                self.report(ErrorKind::NotOneOperator { found: object.len() });
                None
            }
        }
    }

    fn unknown_operator(
        &mut self,
        name: &str,
        known: &[&'static str],
        allowed: &'static str,
    ) -> Option<Condition> {
        let nearest = known
            .iter()
            .map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate))
            .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate);
        self.report(ErrorKind::UnknownOperator { name: name.into(), nearest, allowed });
        None
    }

    fn wrong_operand<T>(&mut self, operator: &'static str, needs: &'static str, found: &Json) -> Option<T> {
        self.report(ErrorKind::WrongOperand { operator, needs, found: type_name(found) });
        None
    }

    fn string<'j>(&mut self, operator: &'static str, operand: &'j Json) -> Option<&'j str> {
        match operand {
            Json::String(text) => Some(text),
            other => self.wrong_operand(operator, "a string", other),
        }
    }

    /// A non-empty string. Every string has the empty prefix and suffix, so `anything-but` of one
    /// could never match.
    fn non_empty_string<'j>(&mut self, operator: &'static str, operand: &'j Json) -> Option<&'j str> {
        let text = self.string(operator, operand)?;
        if text.is_empty() {
            self.report(ErrorKind::EmptyOperand { operator });
            return None;
        }
        Some(text)
    }

    fn equals_ignore_case(&mut self, operand: &Json) -> Option<Condition> {
        self.string("equals-ignore-case", operand).map(|text| Condition::EqualsFolded(Folded::new(text)))
    }

    /// `prefix` or `suffix`: a string, or `{"equals-ignore-case": string}`.
    fn affix(
        &mut self,
        operator: &'static str,
        operand: &Json,
        plain: impl FnOnce(&str) -> Condition,
        folded: impl FnOnce(Folded) -> Condition,
    ) -> Option<Condition> {
        match operand {
            Json::String(text) => Some(plain(text)),
            Json::Object(object) => {
                let (name, operand) = self.single_member(object)?;
                self.at(&path_step(name), |compiler| match name {
                    "equals-ignore-case" => {
                        compiler.string("equals-ignore-case", operand).map(|text| folded(Folded::new(text)))
                    }
                    unknown => compiler.unknown_operator(unknown, &FOLDING, FOLDING_TEXT),
                })
            }
            other => self.wrong_operand(operator, "a string or `equals-ignore-case`", other),
        }
    }

    fn glob(&mut self, operator: &'static str, operand: &Json) -> Option<Condition> {
        let text = self.string(operator, operand)?;
        match Glob::parse(text, operator == "wildcard") {
            Ok(glob) => return Some(Condition::Glob(glob)),
            Err(GlobError::Adjacent(offset)) => {
                self.report(ErrorKind::AdjacentWildcards { operator, offset });
            }
            Err(GlobError::Escape(offset)) => self.report(ErrorKind::WildcardEscape { offset }),
        }
        None
    }

    fn cidr(&mut self, operand: &Json) -> Option<Condition> {
        let text = self.string("cidr", operand)?;
        match Cidr::parse(text) {
            Ok(cidr) => Some(Condition::Cidr(cidr)),
            Err(reason) => {
                self.report(ErrorKind::Cidr { text: text.into(), reason });
                None
            }
        }
    }

    /// `anything-but`: of values, or of one operator.
    fn anything_but(&mut self, operand: &Json) -> Option<Condition> {
        const STRINGS: &str = "a string or an array of strings";
        let Json::Object(object) = operand else {
            let needs = "a string, a number, an array of them, or an operator";
            return self.none_of("anything-but", operand, needs, |compiler, value| match value {
                Json::String(_) | Json::Number(_) => Some(exact(value)),
                other => compiler.wrong_operand("anything-but", "strings and numbers", other),
            });
        };
        let (name, operand) = self.single_member(object)?;
        self.at(&path_step(name), |compiler| match name {
            "prefix" => compiler.none_of("prefix", operand, STRINGS, |compiler, value| {
                compiler.non_empty_string("prefix", value).map(|text| Condition::Prefix(text.into()))
            }),
            "suffix" => compiler.none_of("suffix", operand, STRINGS, |compiler, value| {
                compiler.non_empty_string("suffix", value).map(|text| Condition::Suffix(text.into()))
            }),
            "equals-ignore-case" => {
                compiler.none_of("equals-ignore-case", operand, STRINGS, Self::equals_ignore_case)
            }
            "wildcard" => compiler
                .none_of("wildcard", operand, STRINGS, |compiler, value| compiler.glob("wildcard", value)),
            unknown => compiler.unknown_operator(unknown, &NEGATABLE, NEGATABLE_TEXT),
        })
    }

    /// The negation of one operand or of a list of them.
    fn none_of(
        &mut self,
        operator: &'static str,
        operand: &Json,
        needs: &'static str,
        mut condition: impl FnMut(&mut Self, &Json) -> Option<Condition>,
    ) -> Option<Condition> {
        let conditions: Vec<Condition> = match operand {
            Json::Array(values) if values.is_empty() => {
                self.report(ErrorKind::EmptyArray);
                return None;
            }
            Json::Array(values) => values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| {
                    self.at(&format!("[{index}]"), |compiler| condition(compiler, value))
                })
                .collect(),
            Json::String(_) | Json::Number(_) => condition(self, operand).into_iter().collect(),
            other => return self.wrong_operand(operator, needs, other),
        };
        Some(Condition::NoneOf(conditions.into_boxed_slice()))
    }

    fn numeric(&mut self, operand: &Json) -> Option<Condition> {
        let Json::Array(terms) = operand else {
            return self.wrong_operand("numeric", "an array such as `[\">\", 0, \"<=\", 5]`", operand);
        };
        match range(terms) {
            Ok(condition) => Some(condition),
            Err(reason) => {
                self.report(ErrorKind::Numeric { reason });
                None
            }
        }
    }
}

/// The condition of `numeric`: one comparison, or a lower limit followed by an upper limit.
fn range(terms: &[Json]) -> Result<Condition, &'static str> {
    let mut limits = Vec::with_capacity(2);
    for term in terms.chunks(2) {
        let [Json::String(comparison), Json::Number(number)] = term else {
            return Err("needs pairs of a comparison and a number, such as `[\">\", 0, \"<=\", 5]`");
        };
        limits.push((comparison.as_str(), number_of(number)));
    }
    match limits[..] {
        [] => Err("needs at least one comparison"),
        [("=", number)] => Ok(Condition::Number(number)),
        [("!=", _)] => Err("does not support `!=`; write `{\"anything-but\": NUMBER}`"),
        [(comparison, number)] => match (lower(comparison, number), upper(comparison, number)) {
            (None, None) => Err("supports only the comparisons =, <, <=, > and >="),
            (low, high) => Ok(Condition::Range { low, high }),
        },
        [(from, bottom), (to, top)] => match (lower(from, bottom), upper(to, top)) {
            (Some(_), Some(_)) if bottom.compare(top).is_ge() => {
                Err("needs a lower limit below the upper limit")
            }
            (Some(low), Some(high)) => Ok(Condition::Range { low: Some(low), high: Some(high) }),
            _ => Err("needs `>` or `>=` first and `<` or `<=` second in a range"),
        },
        _ => Err("takes at most two comparisons"),
    }
}

fn lower(comparison: &str, number: Number) -> Option<Limit> {
    let inclusive = comparison == ">=";
    (inclusive || comparison == ">").then_some(Limit { number, inclusive })
}

fn upper(comparison: &str, number: Number) -> Option<Limit> {
    let inclusive = comparison == "<=";
    (inclusive || comparison == "<").then_some(Limit { number, inclusive })
}

fn exact(scalar: &Json) -> Condition {
    match scalar {
        Json::String(text) => exact_text(text),
        Json::Number(number) => Condition::Number(number_of(number)),
        Json::Bool(true) => Condition::Literal(Literal::True),
        Json::Bool(false) => Condition::Literal(Literal::False),
        Json::Null | Json::Array(_) | Json::Object(_) => Condition::Literal(Literal::Null),
    }
}

fn exact_text(text: &str) -> Condition {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Condition::Address(address.into()),
        Err(_) => Condition::Text(text.into()),
    }
}

fn number_of(number: &serde_json::Number) -> Number {
    match (number.as_i64(), number.as_f64()) {
        (Some(int), _) => Number::Int(int),
        (None, Some(float)) => Number::from_float(float),
        // Reached only with serde_json's feature `arbitrary_precision`, by a number beyond
        // binary64.
        (None, None) => Number::Float(f64::INFINITY),
    }
}
