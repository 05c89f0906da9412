//! The requests that conditions can tell apart: every path they read, with one value for each answer that can
//! make a difference.

use crate::inputs::{self, Val, provider_type};
use crate::native::{Atom, Constant, Operand, Path, Read, Relation, Test, With};
use crate::phase::Phase;
use crate::rule::Rule;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use types::expr::Type;

/// Most cells that are all looked at; of more, a sample is.
pub(crate) const MAX_CELLS: u64 = 200_000;
/// Size of the sample.
const SAMPLE: u64 = 20_000;
/// A string that no condition names.
const OTHER: &str = "something else";

/// What a variable of the space stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A field, by its names.
    Path(Vec<String>),
    /// A part of a condition that is taken as it is, by its text; a list that holds a value, too.
    Atom(String),
}

/// A value of a variable.
#[derive(Clone, Debug, PartialEq)]
enum Point {
    Value(Constant),
    Holds(bool),
}

/// How a witness makes an atom true: by what stands at a path.
struct Way {
    names: Vec<String>,
    what: What,
}

/// What has to stand there.
enum What {
    /// A list that holds this.
    Element(String),
    /// A list that holds these.
    Elements(Vec<String>),
    /// A text with this in it.
    Piece(String),
    /// This value.
    Member(Value),
}

/// The space that some rules span.
pub(crate) struct Space {
    keys: BTreeMap<Key, usize>,
    points: Vec<Vec<Point>>,
    ways: BTreeMap<String, Way>,
}

/// One point of a space.
pub(crate) struct Cell<'a> {
    space: &'a Space,
    at: Vec<usize>,
}

impl Space {
    /// The space of some rules of a phase.
    pub(crate) fn of<'r>(rules: impl Iterator<Item = &'r Rule>, phase: Phase) -> Space {
        let mut wanted: BTreeMap<Key, Vec<Constant>> = BTreeMap::new();
        let mut ways = BTreeMap::new();
        for rule in rules {
            for atom in rule.when.iter().chain(&rule.unless).flat_map(|c| c.tree.atoms()) {
                collect(atom, &mut wanted);
                ways.extend(way(atom, phase).map(|way| (atom.text.to_string(), way)));
            }
        }
        let mut space = Space { keys: BTreeMap::new(), points: Vec::new(), ways };
        for (key, constants) in wanted {
            let points = match &key {
                Key::Atom(_) => vec![Point::Holds(false), Point::Holds(true)],
                Key::Path(names) => {
                    let ty = type_of(names, phase);
                    points(ty.as_ref(), &constants, range(names, ty.as_ref()))
                }
            };
            space.keys.insert(key, space.points.len());
            space.points.push(points);
        }
        space
    }

    /// Whether conditions read anything at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// How many cells there are.
    pub(crate) fn size(&self) -> u64 {
        self.points.iter().fold(1_u64, |n, p| n.saturating_mul(p.len() as u64))
    }

    /// Whether every cell is looked at.
    pub(crate) fn is_whole(&self) -> bool {
        self.size() <= MAX_CELLS
    }

    /// The first cell, in a fixed order, for which `f` gives something.
    pub(crate) fn find<T>(&self, mut f: impl FnMut(&Cell<'_>) -> Option<T>) -> Option<T> {
        let mut cell = Cell { space: self, at: vec![0; self.points.len()] };
        if self.is_whole() {
            loop {
                if let Some(found) = f(&cell) {
                    return Some(found);
                }
                if !cell.advance() {
                    return None;
                }
            }
        }
        // Xorshift (Marsaglia 2003) with a fixed seed: the same sample at every load.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..SAMPLE {
            for (at, points) in cell.at.iter_mut().zip(&self.points) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *at = usize::try_from(state % points.len().max(1) as u64).unwrap_or(0);
            }
            if let Some(found) = f(&cell) {
                return Some(found);
            }
        }
        None
    }
}

impl Cell<'_> {
    /// Moves to the next cell; whether there was one.
    fn advance(&mut self) -> bool {
        for (at, points) in self.at.iter_mut().zip(&self.space.points) {
            *at = at.saturating_add(1);
            if *at < points.len() {
                return true;
            }
            *at = 0;
        }
        false
    }

    fn point(&self, key: &Key) -> Option<&Point> {
        let i = *self.space.keys.get(key)?;
        self.space.points.get(i)?.get(*self.at.get(i)?)
    }

    /// Whether a rule matches here.
    pub(crate) fn matches(&self, rule: &Rule) -> bool {
        let holds = |c: &crate::expression::Condition| {
            c.tree.holds(&mut |atom| Ok::<_, ()>(self.holds(atom))).unwrap_or(false)
        };
        rule.when.as_ref().is_none_or(holds) && !rule.unless.as_ref().is_some_and(holds)
    }

    fn holds(&self, atom: &Atom) -> bool {
        match self.point(&Key::Atom(atom.text.to_string())) {
            Some(Point::Holds(b)) => *b,
            _ => atom.test.as_ref().and_then(|t| t.holds(self)).unwrap_or(false),
        }
    }

    /// The variables of a request that lies here; `None` where a part of a condition cannot be made to hold by
    /// values alone, or two parts ask for different ones. What is not to hold is left as it is in an ordinary request.
    pub(crate) fn witness(&self) -> Option<Value> {
        let mut out = Map::new();
        for (key, i) in &self.space.keys {
            let point = self.space.points.get(*i)?.get(*self.at.get(*i)?)?;
            match (key, point) {
                (Key::Path(names), Point::Value(c)) => put(&mut out, names, c.json()),
                (Key::Atom(text), Point::Holds(true)) => self.space.ways.get(text)?.go(&mut out)?,
                (Key::Atom(_), Point::Holds(false)) => {}
                _ => return None,
            }
        }
        Some(Value::Object(out))
    }
}

impl Read for Cell<'_> {
    fn read<'a>(&'a self, path: &Path) -> Option<Val<'a>> {
        let names = path.names.iter().map(ToString::to_string).collect();
        match self.point(&Key::Path(names))? {
            Point::Value(c) => Some(c.val()),
            Point::Holds(_) => None,
        }
    }
}

impl Way {
    /// Writes it down; `None` where something else stands there already.
    fn go(&self, out: &mut Map<String, Value>) -> Option<()> {
        let (last, before) = self.names.split_last()?;
        let mut at = out;
        for name in before {
            at = at.entry(name.clone()).or_insert_with(|| json!({})).as_object_mut()?;
        }
        match &self.what {
            What::Element(element) => {
                at.entry(last.clone()).or_insert_with(|| json!([])).as_array_mut()?.push(json!(element));
            }
            What::Elements(elements) => {
                let list = at.entry(last.clone()).or_insert_with(|| json!([])).as_array_mut()?;
                list.extend(
                    elements
                        .iter()
                        .filter(|e| !list.contains(&json!(e)))
                        .map(|e| json!(e))
                        .collect::<Vec<_>>(),
                );
            }
            What::Piece(piece) => match at.get_mut(last) {
                Some(Value::String(text)) => *text = format!("{text} {piece}"),
                Some(_) => return None,
                None => drop(at.insert(last.clone(), json!(piece))),
            },
            What::Member(value) if at.get(last).is_some_and(|there| there != value) => return None,
            What::Member(value) => drop(at.insert(last.clone(), value.clone())),
        }
        Some(())
    }
}

/// Puts a value at a path of names.
fn put(out: &mut Map<String, Value>, names: &[String], value: Value) {
    match names {
        [] => {}
        [last] => {
            out.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = out.entry(first.clone()).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

fn names_of(path: &[Box<str>]) -> Vec<String> {
    path.iter().map(ToString::to_string).collect()
}

/// How a part that is taken as it is can be made to hold.
fn way(atom: &Atom, phase: Phase) -> Option<Way> {
    let (names, what) = match (&atom.test, &atom.asked) {
        (Some(Test::Holds(Operand::Path(p), Constant::Str(s))), _) => {
            let names = names_of(&p.names);
            match type_of(&names, phase) {
                Some(Type::Str) => (names, What::Piece(s.to_string())),
                _ => (names, What::Element(s.to_string())),
            }
        }
        (Some(Test::AnyOf(Operand::Path(p), list)), _) => match list.first()? {
            Constant::Str(s) => (names_of(&p.names), What::Element(s.to_string())),
            _ => return None,
        },
        (None, Some(asked)) => {
            let names = names_of(&asked.names);
            let what = match &asked.with {
                With::Value(value) => What::Member(value.json()),
                With::Text(text) => What::Piece(text.to_string()),
                With::Length(n) => of_length(type_of(&names, phase)?, *n)?,
            };
            (names, what)
        }
        _ => return None,
    };
    Some(Way { names, what })
}

/// What of a type is so long.
fn of_length(ty: Type, n: usize) -> Option<What> {
    match ty {
        Type::Optional(of) => of_length(*of, n),
        Type::Str => Some(What::Piece("x".repeat(n))),
        Type::List(of) => match *of {
            Type::Str => Some(What::Elements((1..=n).map(|i| format!("n{i}")).collect())),
            Type::Enum(values) if values.len() >= n => {
                Some(What::Elements(values.iter().take(n).map(ToString::to_string).collect()))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What an atom makes one look at.
fn collect(atom: &Atom, wanted: &mut BTreeMap<Key, Vec<Constant>>) {
    let mut path = |path: &Path, constants: &[Constant]| {
        wanted.entry(Key::Path(names_of(&path.names))).or_default().extend_from_slice(constants);
    };
    match &atom.test {
        Some(Test::Is(Operand::Path(p))) => path(p, &[]),
        Some(Test::Compare(Operand::Path(p), r, Operand::Constant(c)))
        | Some(Test::Compare(Operand::Constant(c), r, Operand::Path(p))) => path(p, &around(c, *r)),
        Some(Test::Compare(Operand::Or(p, d), r, Operand::Constant(c)))
        | Some(Test::Compare(Operand::Constant(c), r, Operand::Or(p, d))) => {
            path(p, &around(c, *r));
            path(p, std::slice::from_ref(d));
        }
        // A set without members never holds anything, which says nothing of the condition.
        Some(Test::OneOf(Operand::Path(p) | Operand::Or(p, _), list)) if !list.is_empty() => path(p, list),
        _ => {
            wanted.entry(Key::Atom(atom.text.to_string())).or_default();
        }
    }
}

/// What a value is compared with; of a text that it is to stand before or after, also the first of all texts and the one
/// that follows. Of numbers, [`cuts`] knows the neighbours.
fn around(constant: &Constant, relation: Relation) -> Vec<Constant> {
    let mut all = vec![constant.clone()];
    if let (Constant::Str(s), false) = (constant, matches!(relation, Relation::Equal | Relation::NotEqual)) {
        all.extend([Constant::Str("".into()), Constant::Str(format!("{s}\u{1}").into())]);
    }
    all
}

/// The declared type of a path.
fn type_of(names: &[String], phase: Phase) -> Option<Type> {
    let (root, rest) = names.split_first()?;
    let (mut ty, rest) = if root == "providers" {
        (provider_type(), rest.get(1..)?)
    } else {
        let found = inputs::variables(phase).into_iter().find(|(n, _)| n == root)?;
        (found.1, rest)
    };
    for name in rest {
        let Type::Map(fields) = ty else { return None };
        ty = fields.into_iter().find(|(n, _)| n == name)?.1;
    }
    Some(ty)
}

/// Bounds of numbers.
type Range = RangeInclusive<f64>;

/// Fields that hold no other numbers than these, where their types say less.
const RANGES: &[(&str, Range)] = &[
    ("time.hour", 0.0..=23.0),
    ("time.minute", 0.0..=59.0),
    ("input.injection_score", 0.0..=1.0),
    ("workload.confidence", 0.0..=1.0),
];

/// The numbers that a field may hold. Whole ones count something or are a length of time.
fn range(names: &[String], ty: Option<&Type>) -> Range {
    let ty = match ty {
        Some(Type::Optional(of)) => Some(&**of),
        ty => ty,
    };
    let path = names.join(".");
    let known = RANGES.iter().find(|(name, _)| *name == path).map(|(_, range)| range.clone());
    known.unwrap_or(match ty {
        Some(Type::Int) => 0.0..=f64::INFINITY,
        _ => f64::NEG_INFINITY..=f64::INFINITY,
    })
}

/// One value for each answer that the constants can make.
fn points(ty: Option<&Type>, constants: &[Constant], range: Range) -> Vec<Point> {
    let mut points = match ty {
        Some(Type::Optional(of)) => {
            let mut points = points(Some(of), constants, range);
            points.push(Point::Value(Constant::Unit));
            points
        }
        Some(Type::Bool) => vec![Point::Value(Constant::Bool(false)), Point::Value(Constant::Bool(true))],
        Some(Type::Enum(values)) => values.iter().map(|v| Point::Value(Constant::Str((*v).into()))).collect(),
        Some(Type::Int) => cuts(constants, true, &range),
        Some(Type::Float) => cuts(constants, false, &range),
        // A value of any kind: those that are named, numbers around them, and another.
        _ => {
            let mut points: Vec<Point> = constants.iter().cloned().map(Point::Value).collect();
            if constants.iter().any(|c| matches!(c, Constant::Int(_) | Constant::Float(_))) {
                points.extend(cuts(constants, false, &range));
            }
            points.push(Point::Value(Constant::Str(OTHER.into())));
            points
        }
    };
    let mut seen: Vec<Point> = Vec::with_capacity(points.len());
    points.retain(|p| {
        let new = !seen.contains(p);
        if new {
            seen.push(p.clone());
        }
        new
    });
    points
}

/// Numbers at, between and beyond the constants, as far as a field may hold them.
fn cuts(constants: &[Constant], whole: bool, range: &Range) -> Vec<Point> {
    let number = |c: &Constant| match c {
        Constant::Int(i) => Some(*i as f64),
        Constant::Float(f) => Some(*f),
        _ => None,
    };
    let mut at: Vec<f64> = constants.iter().filter_map(number).collect();
    // What stands beyond the range tells none of its numbers apart.
    at.retain(|c| range.contains(c));
    at.sort_by(f64::total_cmp);
    at.dedup();
    let mut all = Vec::new();
    for (i, c) in at.iter().enumerate() {
        if i == 0 {
            all.push((c - 1.0).max(*range.start()));
        }
        all.push(*c);
        all.push(
            at.get(i.saturating_add(1)).map_or((c + 1.0).min(*range.end()), |next| f64::midpoint(*c, *next)),
        );
    }
    if all.is_empty() {
        let ends = [*range.start(), *range.end()];
        all.push(ends.into_iter().find(|end| end.is_finite()).unwrap_or(0.0));
    }
    let point = |x: f64| {
        // Whole numbers between two that follow on each other do not exist; rounding gives one of the two.
        Point::Value(if whole { Constant::Int(x.floor() as i64) } else { Constant::Float(x) })
    };
    all.into_iter().map(point).collect()
}

impl Constant {
    fn json(&self) -> Value {
        match self {
            Constant::Unit => Value::Null,
            Constant::Bool(b) => json!(b),
            Constant::Int(i) => json!(i),
            Constant::Float(f) => json!(f),
            Constant::Str(s) => json!(s),
        }
    }
}
