//! A pattern's JSON to alternatives: conjunctions of constraints, one for each combination of its `$or`s.
//!
//! The grammar and its faults are those of Event Ruler, the engine of EventBridge, with two differences: `anything-but` may mix strings and
//! numbers, and `shellstyle` (of the quamina in the old router) is read. Inside one alternative a path may be constrained once; Event Ruler
//! lets the later constraint win silently, which depends on the order of keys and is not what a reader expects.

use std::net::Ipv6Addr;

use serde_json::{Map, Value as Json};

use crate::error::{Fault, PatternError};
use crate::number::Number;
use crate::operator::{AnyOf, Cidr, Limit, Literal, Test};
use crate::text::{Folded, Glob, GlobFault};
use crate::{PatternId, limits};

/// What must hold together: the tests for each path, by the names on the way from the root.
#[derive(Clone, Debug, Default)]
pub struct Conjunction {
    pub constraints: Vec<(Vec<String>, AnyOf)>,
}

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
const NESTED: [&str; 4] = ["prefix", "suffix", "equals-ignore-case", "wildcard"];
const NESTED_TEXT: &str = "prefix, suffix, equals-ignore-case, wildcard";
const FOLDED: [&str; 1] = ["equals-ignore-case"];
const FOLDED_TEXT: &str = "equals-ignore-case";
/// Names that Event Ruler keeps for operators of today and tomorrow where a field could be meant.
const RESERVED_IN_OR: [&str; 24] = [
    "exactly",
    "equals-ignore-case",
    "prefix",
    "suffix",
    "anything-but",
    "exists",
    "wildcard",
    "numeric",
    "cidr",
    "=",
    "<",
    "<=",
    ">",
    ">=",
    "regex",
    "not-wildcard",
    "not-equals-ignore-case",
    "date-after",
    "date-on-or-after",
    "date-before",
    "date-on-or-before",
    "in-date-range",
    "ip-address-in-range",
    "ip-address-not-in-range",
];

/// The alternatives of `pattern`, one of which must hold; or all that is wrong with it.
pub fn compile(id: PatternId, pattern: &Json) -> Result<Vec<Conjunction>, Vec<PatternError>> {
    let mut compiler =
        Compiler { id, place: "$".into(), names: Vec::new(), in_or: false, errors: Vec::new() };
    let mut alternatives = vec![Conjunction::default()];
    match pattern {
        Json::Object(object) => compiler.object(object, &mut alternatives),
        other => compiler.fault(Fault::NotAnObject { found: kind(other) }),
    }
    if compiler.errors.is_empty() { Ok(alternatives) } else { Err(compiler.errors) }
}

struct Compiler {
    id: PatternId,
    /// Where in the pattern's text.
    place: String,
    /// Where in the event: the names so far, without `$or` and its indices, split at dots as Event Ruler joins them.
    names: Vec<String>,
    in_or: bool,
    errors: Vec<PatternError>,
}

impl Compiler {
    fn fault(&mut self, fault: Fault) {
        self.errors.push(PatternError { pattern: self.id, path: self.place.clone(), fault });
    }

    /// Runs `body` one step further down the pattern's text.
    fn at<T>(&mut self, step: &str, body: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.place.len();
        self.place.push_str(step);
        let result = body(self);
        self.place.truncate(length);
        result
    }

    fn object(&mut self, object: &Map<String, Json>, alternatives: &mut Vec<Conjunction>) {
        if object.is_empty() {
            return self.fault(Fault::EmptyObject);
        }
        for (name, value) in object {
            self.at(&step(name), |compiler| compiler.member(name, value, alternatives));
        }
    }

    fn member(&mut self, name: &str, value: &Json, alternatives: &mut Vec<Conjunction>) {
        if name == "$or" {
            return self.or(value, alternatives);
        }
        if self.in_or && RESERVED_IN_OR.contains(&name) {
            return self.fault(Fault::ReservedInOr { name: name.into() });
        }
        let length = self.names.len();
        self.names.extend(name.split('.').map(String::from));
        match value {
            _ if self.names.len() > limits::PATTERN_DEPTH_MAX => self.fault(Fault::TooDeep),
            Json::Object(object) => self.object(object, alternatives),
            Json::Array(values) => self.constrain(values, alternatives),
            other => self.fault(Fault::NotAList { found: kind(other) }),
        }
        self.names.truncate(length);
    }

    fn or(&mut self, value: &Json, alternatives: &mut Vec<Conjunction>) {
        let Some(branches) = value.as_array() else {
            return self.fault(Fault::OrNeedsObjects { found: kind(value).into() });
        };
        if branches.len() < 2 {
            return self.fault(Fault::OrNeedsObjects { found: format!("{} element(s)", branches.len()) });
        }
        if alternatives.len() * branches.len() > limits::ALTERNATIVES_MAX {
            return self.fault(Fault::TooManyAlternatives);
        }
        // `$or` takes no name, so the depth of names alone would not bound its nesting.
        if self.place.matches(".$or").count() > limits::PATTERN_DEPTH_MAX {
            return self.fault(Fault::TooDeep);
        }
        let outer = std::mem::replace(&mut self.in_or, true);
        let base = std::mem::take(alternatives);
        for (index, branch) in branches.iter().enumerate() {
            self.at(&format!("[{index}]"), |compiler| match branch {
                Json::Object(object) => {
                    let mut extended = base.clone();
                    compiler.object(object, &mut extended);
                    alternatives.append(&mut extended);
                }
                other => compiler.fault(Fault::OrNeedsObjects { found: format!("{} in it", kind(other)) }),
            });
        }
        self.in_or = outer;
        if alternatives.len() > limits::ALTERNATIVES_MAX {
            self.fault(Fault::TooManyAlternatives);
            alternatives.truncate(1);
        }
    }

    fn constrain(&mut self, values: &[Json], alternatives: &mut [Conjunction]) {
        if values.is_empty() {
            return self.fault(Fault::EmptyArray);
        }
        let tests: AnyOf = values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| self.at(&format!("[{index}]"), |compiler| compiler.test(value)))
            .collect();
        for alternative in alternatives {
            if alternative.constraints.iter().any(|(names, _)| *names == self.names) {
                return self.fault(Fault::ConstrainedTwice { path: self.names.join(".") });
            }
            alternative.constraints.push((self.names.clone(), tests.clone()));
        }
    }

    fn test(&mut self, value: &Json) -> Option<Test> {
        match value {
            Json::Object(operator) => self.operator(operator),
            Json::Array(_) => {
                self.fault(Fault::NotAValue { found: kind(value) });
                None
            }
            scalar => Some(exact(scalar)),
        }
    }

    fn operator(&mut self, object: &Map<String, Json>) -> Option<Test> {
        let (name, operand) = self.only(object)?;
        self.at(&step(name), |compiler| match name {
            "exactly" => compiler.text("exactly", operand).map(exact_text),
            "prefix" => {
                compiler.affix("prefix", operand, |text| Test::Prefix(text.into()), Test::PrefixFolded)
            }
            "suffix" => {
                compiler.affix("suffix", operand, |text| Test::Suffix(text.into()), Test::SuffixFolded)
            }
            "equals-ignore-case" => {
                compiler.text("equals-ignore-case", operand).map(|text| Test::EqualsFolded(Folded::new(text)))
            }
            "wildcard" => compiler.glob("wildcard", operand),
            "shellstyle" => compiler.glob("shellstyle", operand),
            "anything-but" => compiler.anything_but(operand),
            "numeric" => compiler.numeric(operand),
            "exists" => match operand {
                Json::Bool(true) => Some(Test::Present),
                Json::Bool(false) => Some(Test::Missing),
                other => compiler.wrong("exists", "true or false", other),
            },
            "cidr" => {
                let text = compiler.text("cidr", operand)?;
                match Cidr::parse(text) {
                    Ok(cidr) => Some(Test::Cidr(cidr)),
                    Err(reason) => {
                        compiler.fault(Fault::Cidr { text: text.into(), reason });
                        None
                    }
                }
            }
            unknown => compiler.unknown(unknown, &OPERATORS, OPERATORS_TEXT),
        })
    }

    /// The one member of an operator object.
    fn only<'j>(&mut self, object: &'j Map<String, Json>) -> Option<(&'j str, &'j Json)> {
        let mut members = object.iter();
        match (members.next(), members.next()) {
            (Some((name, operand)), None) => Some((name, operand)),
            _ => {
                self.fault(Fault::NotOneOperator { found: object.len() });
                None
            }
        }
    }

    fn unknown(&mut self, name: &str, known: &[&'static str], allowed: &'static str) -> Option<Test> {
        let near = known.iter().map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate));
        // 0.8: `prefx`, `equal-ignore-case` and `anythingbut` are near, `regex` is not.
        let nearest = near
            .filter(|(score, _)| *score >= 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, candidate)| candidate);
        self.fault(Fault::UnknownOperator { name: name.into(), nearest, allowed });
        None
    }

    fn wrong<T>(&mut self, operator: &'static str, needs: &'static str, found: &Json) -> Option<T> {
        self.fault(Fault::WrongOperand { operator, needs, found: kind(found) });
        None
    }

    fn text<'j>(&mut self, operator: &'static str, operand: &'j Json) -> Option<&'j str> {
        match operand {
            Json::String(text) => Some(text),
            other => self.wrong(operator, "a string", other),
        }
    }

    /// `prefix` and `suffix`, plain or with `equals-ignore-case` inside.
    fn affix(
        &mut self,
        operator: &'static str,
        operand: &Json,
        plain: impl FnOnce(&str) -> Test,
        folded: impl FnOnce(Folded) -> Test,
    ) -> Option<Test> {
        match operand {
            Json::String(text) => Some(plain(text)),
            Json::Object(object) => {
                let (name, operand) = self.only(object)?;
                self.at(&step(name), |compiler| match name {
                    "equals-ignore-case" => {
                        compiler.text("equals-ignore-case", operand).map(|text| folded(Folded::new(text)))
                    }
                    unknown => compiler.unknown(unknown, &FOLDED, FOLDED_TEXT),
                })
            }
            other => self.wrong(operator, "a string or `equals-ignore-case`", other),
        }
    }

    fn glob(&mut self, operator: &'static str, operand: &Json) -> Option<Test> {
        let text = self.text(operator, operand)?;
        match Glob::parse(text, operator == "wildcard") {
            Ok(glob) => return Some(Test::Glob(glob)),
            Err(GlobFault::Adjacent(offset)) => self.fault(Fault::AdjacentWildcards { operator, offset }),
            Err(GlobFault::Escape(offset)) => self.fault(Fault::WildcardEscape { offset }),
        }
        None
    }

    fn anything_but(&mut self, operand: &Json) -> Option<Test> {
        let Json::Object(object) = operand else {
            return self.none_of(
                "anything-but",
                operand,
                "a string, a number, an array of them, or an operator",
                |compiler, value| match value {
                    Json::String(_) | Json::Number(_) => Some(exact(value)),
                    other => compiler.wrong("anything-but", "strings and numbers", other),
                },
            );
        };
        let (name, operand) = self.only(object)?;
        self.at(&step(name), |compiler| match name {
            "prefix" => {
                compiler.none_of("prefix", operand, "a string or an array of strings", |compiler, value| {
                    compiler.filled("prefix", value).map(|text| Test::Prefix(text.into()))
                })
            }
            "suffix" => {
                compiler.none_of("suffix", operand, "a string or an array of strings", |compiler, value| {
                    compiler.filled("suffix", value).map(|text| Test::Suffix(text.into()))
                })
            }
            "equals-ignore-case" => compiler.none_of(
                "equals-ignore-case",
                operand,
                "a string or an array of strings",
                |compiler, value| {
                    compiler
                        .text("equals-ignore-case", value)
                        .map(|text| Test::EqualsFolded(Folded::new(text)))
                },
            ),
            "wildcard" => {
                compiler.none_of("wildcard", operand, "a string or an array of strings", |compiler, value| {
                    compiler.glob("wildcard", value)
                })
            }
            unknown => compiler.unknown(unknown, &NESTED, NESTED_TEXT),
        })
    }

    /// One operand or a list of them, none of which may fit.
    fn none_of(
        &mut self,
        operator: &'static str,
        operand: &Json,
        needs: &'static str,
        mut test: impl FnMut(&mut Self, &Json) -> Option<Test>,
    ) -> Option<Test> {
        let tests: Vec<Test> = match operand {
            Json::Array(values) if values.is_empty() => {
                self.fault(Fault::EmptyArray);
                return None;
            }
            Json::Array(values) => values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| self.at(&format!("[{index}]"), |compiler| test(compiler, value)))
                .collect(),
            Json::String(_) | Json::Number(_) => test(self, operand).into_iter().collect(),
            other => return self.wrong(operator, needs, other),
        };
        Some(Test::NoneOf(tests.into_boxed_slice()))
    }

    /// A string that is not empty: everything begins and ends with the empty one, so `anything-but` of it could never match.
    fn filled<'j>(&mut self, operator: &'static str, operand: &'j Json) -> Option<&'j str> {
        let text = self.text(operator, operand)?;
        if text.is_empty() {
            self.fault(Fault::EmptyOperand { operator });
            return None;
        }
        Some(text)
    }

    fn numeric(&mut self, operand: &Json) -> Option<Test> {
        let Json::Array(terms) = operand else {
            return self.wrong("numeric", "an array such as `[\">\", 0, \"<=\", 5]`", operand);
        };
        match range(terms) {
            Ok(test) => Some(test),
            Err(reason) => {
                self.fault(Fault::Numeric { reason });
                None
            }
        }
    }
}

/// The range of `numeric`'s terms: `=`, one comparison, or a lower limit followed by an upper one.
fn range(terms: &[Json]) -> Result<Test, &'static str> {
    let mut limits = Vec::with_capacity(2);
    for term in terms.chunks(2) {
        let [Json::String(comparison), Json::Number(number)] = term else {
            return Err("needs pairs of a comparison and a number, such as `[\">\", 0, \"<=\", 5]`");
        };
        limits.push((comparison.as_str(), number_of(number)));
    }
    let limit = |number, inclusive| Some(Limit { number, inclusive });
    let low = |comparison, number| match comparison {
        ">" => limit(number, false),
        ">=" => limit(number, true),
        _ => None,
    };
    let high = |comparison, number| match comparison {
        "<" => limit(number, false),
        "<=" => limit(number, true),
        _ => None,
    };
    match limits[..] {
        [] => Err("needs at least one comparison"),
        [("=", number)] => Ok(Test::Number(number)),
        [("!=", _)] => Err("knows no `!=`; write `{\"anything-but\": NUMBER}`"),
        [(comparison, number)] => match (low(comparison, number), high(comparison, number)) {
            (None, None) => Err("knows the comparisons =, <, <=, > and >="),
            (low, high) => Ok(Test::Range { low, high }),
        },
        [(from, bottom), (to, top)] => match (low(from, bottom), high(to, top)) {
            (Some(_), Some(_)) if bottom.compare(top).is_ge() => {
                Err("has a lower limit that is not below its upper limit")
            }
            (Some(low), Some(high)) => Ok(Test::Range { low: Some(low), high: Some(high) }),
            _ => Err("needs `>` or `>=` first and `<` or `<=` second in a range"),
        },
        _ => Err("takes at most two comparisons"),
    }
}

fn exact(scalar: &Json) -> Test {
    match scalar {
        Json::String(text) => exact_text(text),
        Json::Number(number) => Test::Number(number_of(number)),
        Json::Bool(true) => Test::Literal(Literal::True),
        Json::Bool(false) => Test::Literal(Literal::False),
        Json::Null | Json::Array(_) | Json::Object(_) => Test::Literal(Literal::Null),
    }
}

fn exact_text(text: &str) -> Test {
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Test::Address(address.into()),
        Err(_) => Test::Text(text.into()),
    }
}

fn number_of(number: &serde_json::Number) -> Number {
    match (number.as_i64(), number.as_f64()) {
        (Some(int), _) => Number::Int(int),
        (None, Some(float)) => Number::from_float(float),
        // Only with serde_json's arbitrary precision: larger than any number that can be compared.
        (None, None) => Number::Float(f64::INFINITY),
    }
}

fn kind(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}

/// One step of a JSON path: `.name`, or `["odd name"]`.
fn step(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
    if plain { format!(".{name}") } else { format!("[{name:?}]") }
}
