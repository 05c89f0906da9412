//! Checks of member access: `a.b.c`, `a[0].b`, `a.f(x).b`.

use super::{ActCall, Checker, Ty, path_of, start};
use rhai::{ASTFlags, Expr, FnCallExpr, Position};
use types::diagnostic::suggestion;

/// Maps of what operators and clients write: a name may stand in one and not in another.
const OPEN: &[&str] = &["tenant.labels", "key.labels", "request.metadata"];

/// The member that is read of a map of any form by `map.get("name")`, where its name leads nowhere else.
fn got<'c>(receiver: &Ty, call: &'c FnCallExpr) -> Option<&'c str> {
    match (receiver, call.name.as_str(), call.args.as_slice()) {
        (Ty::Any, "get", [Expr::StringConstant(name, _)]) if !name.contains('.') => Some(name),
        _ => None,
    }
}

impl Checker<'_> {
    /// A chain of members, indexes and method calls.
    pub(super) fn chain(&mut self, expr: &Expr) -> Ty {
        let (Expr::Dot(first, ..) | Expr::Index(first, ..)) = expr else { return Ty::Any };
        let mut path = match &first.lhs {
            Expr::Variable(x, ..) => Some(x.1.to_string()),
            _ => None,
        };
        let mut ty = match &first.lhs {
            Expr::Variable(x, _, at) if self.script && x.1.as_str() == "act" && self.is_declared("act") => {
                return self.act(&first.rhs, *at);
            }
            Expr::Variable(x, ..) if self.script && x.1.as_str() == "ctx" && self.is_declared("ctx") => {
                self.variables.iter().rev().find(|(n, _)| n == "ctx").map_or(Ty::Any, |(_, t)| t.clone())
            }
            Expr::Variable(x, _, at) => self.variable(&x.1, *at),
            base => self.infer(base),
        };
        let mut parent = expr;
        loop {
            let (dot, x, flags) = match parent {
                Expr::Dot(x, flags, _) => (true, x, flags),
                Expr::Index(x, flags, _) => (false, x, flags),
                _ => return ty,
            };
            let chained =
                matches!(x.rhs, Expr::Dot(..) | Expr::Index(..)) && !flags.intersects(ASTFlags::BREAK);
            let step = match &x.rhs {
                Expr::Dot(next, ..) | Expr::Index(next, ..) if chained => &next.lhs,
                rhs => rhs,
            };
            // `?.` and `?[` give `()` for an unknown receiver.
            let elvis = flags.intersects(ASTFlags::NEGATED);
            let maybe = elvis && ty.is_optional();
            let receiver = if elvis { ty.known() } else { ty };
            ty = if dot {
                self.member(receiver, &mut path, step)
            } else {
                self.element(receiver, &mut path, step)
            };
            if maybe && !matches!(ty, Ty::Any | Ty::Optional(_)) {
                ty = Ty::Optional(Box::new(ty));
            }
            if path.as_ref().is_some_and(|p| self.narrowed.contains(p)) {
                ty = ty.known();
            }
            if !chained {
                break;
            }
            parent = &x.rhs;
        }
        if let Some(path) = path {
            self.note_read(&path);
            self.doubt(&path, start(expr));
        }
        ty
    }

    /// Warns of a value that may be missing, unless it is guarded.
    fn doubt(&mut self, path: &str, at: Position) {
        const ALWAYS_THERE: &[&str] =
            &["status", "outcome", "error", "started_ms", "duration_ms", "cost_usd", "calls"];
        let doubtful = self.doubtful.iter().find_map(|of| {
            let field = path.strip_prefix(of.as_str())?.strip_prefix('.')?;
            Some((of, field.split('.').next().unwrap_or(field)))
        });
        let Some((of, field)) = doubtful else { return };
        let tested = |known: &String| {
            known == path || ["status", "outcome"].iter().any(|s| *known == format!("{of}.{s}"))
        };
        if self.guarded > 0 || ALWAYS_THERE.contains(&field) || self.narrowed.iter().any(tested) {
            return;
        }
        let message = format!(
            "`{of}` may be skipped: give a value for that case (`{path} ?? …`), or test `{of}.outcome` before"
        );
        self.warn("307", at, &message);
    }

    fn is_declared(&self, name: &str) -> bool {
        self.variables.iter().rposition(|(n, _)| n == name).is_some_and(|i| i < self.declared)
    }

    pub(super) fn note_read(&mut self, path: &str) {
        let root = path.split('.').next().unwrap_or(path);
        if self.is_declared(root) {
            self.out.reads.insert(path.to_owned());
        }
    }

    /// `receiver.step`
    fn member(&mut self, receiver: Ty, path: &mut Option<String>, step: &Expr) -> Ty {
        match step {
            Expr::Property(p, at) => {
                let name = p.2.as_str();
                let ty = self.field(&receiver, path.as_deref(), name, *at);
                *path = path.take().map(|p| format!("{p}.{name}"));
                ty
            }
            Expr::MethodCall(call, at) => {
                if let Some(p) = path.take() {
                    let member = got(&receiver, call).map(|name| format!("{p}.{name}"));
                    self.note_read(member.as_deref().unwrap_or(&p));
                    self.doubt(&p, *at);
                }
                self.method(receiver, call, *at)
            }
            _ => Ty::Any,
        }
    }

    fn method(&mut self, receiver: Ty, call: &FnCallExpr, at: Position) -> Ty {
        if receiver.is_optional() {
            let message = format!("`{}` is called on a value that may be unknown", call.name);
            let hint = "give a value for unknown: `(… ?? \"\")`, or call it with `?.`".to_owned();
            self.error("303", at, message, Some(hint));
        }
        self.named(&call.name, Some(receiver.known()), None, &call.args, at)
    }

    fn field(&mut self, receiver: &Ty, path: Option<&str>, name: &str, at: Position) -> Ty {
        let of = path.map_or_else(String::new, |p| format!(" of `{p}`"));
        match receiver {
            Ty::Any => {
                if let Some(open) = path.filter(|p| OPEN.contains(&p.trim_start_matches("ctx."))) {
                    let message = format!(
                        "`{open}.{name}` is an error wherever there is no `{name}`: read `{open}.get(\"{name}\")`, \
                         which is `()` then"
                    );
                    self.warn("303", at, &message);
                }
                Ty::Any
            }
            Ty::Map(fields) => match fields.iter().find(|(n, _)| n == name) {
                Some((_, t)) => t.clone(),
                None => {
                    let hint = suggestion(name, fields.iter().map(|(n, _)| n.as_str()));
                    self.error("301", at, format!("unknown field `{name}`{of}"), Some(hint));
                    Ty::Any
                }
            },
            Ty::Optional(_) => {
                let message = format!("field `{name}`{of}, which may be unknown");
                self.error("303", at, message, Some(format!("write `?.{name}`, with `?? …` behind it for where nothing is known, or test `!= ()` first")));
                Ty::Any
            }
            // The engine offers some functions as properties (`x.floor`, `list.len`).
            _ if self.sandbox.functions.contains_key(name) => Ty::Any,
            other => {
                let message = format!("field `{name}`{of}, which is {} and has none", other.name());
                self.error("301", at, message, None);
                Ty::Any
            }
        }
    }

    /// `receiver[step]`
    fn element(&mut self, receiver: Ty, path: &mut Option<String>, step: &Expr) -> Ty {
        if let (Ty::Map(_), Expr::StringConstant(name, at)) = (&receiver, step) {
            let ty = self.field(&receiver, path.as_deref(), name, *at);
            *path = path.take().map(|p| format!("{p}.{name}"));
            return ty;
        }
        if let Some(p) = path.take() {
            self.note_read(&p);
            self.doubt(&p, step.start_position());
        }
        let index = self.infer(step);
        match receiver {
            Ty::List(of) if matches!(index, Ty::Int | Ty::Any) => *of,
            Ty::List(_) => {
                let message = format!("a list is indexed by a whole number, not {}", index.name());
                self.error("303", step.start_position(), message, None);
                Ty::Any
            }
            _ => Ty::Any,
        }
    }

    /// `act.verb(…)`: the arguments are checked as expressions here, and by the verb later.
    fn act(&mut self, rhs: &Expr, at: Position) -> Ty {
        match rhs {
            Expr::MethodCall(call, at) => {
                call.args.iter().for_each(|a| drop(self.infer(a)));
                self.acts.push(ActCall { call: call.as_ref().clone(), at: *at });
            }
            other => {
                let found = path_of(other).unwrap_or_else(|| "…".to_owned());
                let hint = Some("`act` has one method per verb and gives nothing back".to_owned());
                self.error("131", at, format!("`act.{found}` is no call of a verb"), hint);
            }
        }
        Ty::Unit
    }
}
