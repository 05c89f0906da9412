//! The script engine with its limits: what expressions and policies may call, how long and how large.

use crate::expression::States;
use crate::values;
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicIteratorPackage, BasicMapPackage, BasicMathPackage,
    BasicStringPackage, LogicPackage, MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, OptimizationLevel, Position, Token};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Longest expression, in bytes.
pub(crate) const MAX_EXPRESSION: usize = 4 * 1024;
/// Longest policy, in bytes.
pub(crate) const MAX_SCRIPT: usize = 64 * 1024;
/// Operations of one expression.
const EXPRESSION_OPERATIONS: u64 = 10_000;
/// Operations of one policy call.
const SCRIPT_OPERATIONS: u64 = 50_000;
/// How deep a policy may nest. The engine counts each step of its parser, several for one level that a person sees:
/// `act.tag(#{ a: 1 })` is 10 deep, one condition with `??` around a call with a list 18, a loop around two of them 27.
const SCRIPT_DEPTH: usize = 32;
/// How many functions of a policy may be within each other. Stack is needed for this times [`SCRIPT_DEPTH`] at worst,
/// so what one allows more the other has to allow less.
const SCRIPT_CALLS: usize = 8;
/// Longest string a script makes, and longest text it reads as a string, in bytes.
pub(crate) const MAX_STRING: usize = 4 * 1024;
/// Most elements of a list or map that a script makes.
pub(crate) const MAX_ELEMENTS: usize = 256;

/// Time an expression or a call of a policy may take.
pub(crate) const DEADLINE: Duration = Duration::from_millis(2);
/// Time that all evaluations of a phase may take together, where each keeps to its own limit.
pub(crate) const PHASE: Duration = Duration::from_millis(10);
/// Most that the time between two operations counts: one operation on values within the limits takes less,
/// so a longer gap is a thread that was not running. Without this a busy machine would now and then refuse
/// requests over rules of two microseconds.
const SLICE: Duration = Duration::from_micros(200);

/// Reads a monotonic clock: time since a fixed moment.
pub(crate) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Tokio's clock, which tests can pause.
pub(crate) fn tokio_clock() -> Clock {
    let start = tokio::time::Instant::now();
    Arc::new(move || start.elapsed())
}

/// Names that no text may use: they reach the host, build functions from strings, or loop without bound.
const DISABLED: &[&str] =
    &["eval", "import", "export", "print", "debug", "Fn", "call", "curry", "while", "loop", "do"];

/// What is left of the time of one evaluation.
struct Timer {
    clock: Clock,
    last: Duration,
    left: Duration,
}

impl Timer {
    /// Counts the time since the last call; whether none is left.
    fn is_over(&mut self) -> bool {
        let now = (self.clock)();
        let gap = now.saturating_sub(self.last).min(SLICE);
        self.last = now;
        self.left = self.left.saturating_sub(gap);
        self.left.is_zero()
    }
}

thread_local! {
    /// Of the evaluation that runs on this thread.
    static TIMER: RefCell<Option<Timer>> = const { RefCell::new(None) };
}

thread_local! {
    /// What the evaluations of the phase on this thread have left; `None` = nothing bounds them together.
    static LEFT: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// Runs `f`, in which all evaluations have so much time together; gives with its result what they left.
pub(crate) fn together<T>(left: Duration, f: impl FnOnce() -> T) -> (T, Duration) {
    /// Puts back what held before, also when `f` unwinds.
    struct Restore(Option<Duration>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT.set(self.0);
        }
    }
    let _restore = Restore(LEFT.replace(Some(left)));
    let result = f();
    (result, LEFT.get().unwrap_or_default())
}

/// Whether an evaluation would have less than its own time because of those before it.
pub(crate) fn is_short() -> bool {
    LEFT.get().is_some_and(|left| left < DEADLINE)
}

/// Runs `f` within [`DEADLINE`], or what the phase has left of its time, which the engine's progress callback enforces at
/// every operation.
pub(crate) fn timed<T>(clock: &Clock, f: impl FnOnce() -> T) -> T {
    /// Takes what was used off the phase and puts the outer timer back, also when `f` unwinds.
    struct Restore(Option<Timer>, Duration);
    impl Drop for Restore {
        fn drop(&mut self) {
            let outer = self.0.take();
            let own = TIMER.with(|t| t.replace(outer));
            let used = own.map_or(Duration::ZERO, |own| self.1.saturating_sub(own.left));
            LEFT.set(LEFT.get().map(|left| left.saturating_sub(used)));
        }
    }
    let given = LEFT.get().map_or(DEADLINE, |left| left.min(DEADLINE));
    let timer = Timer { clock: Clock::clone(clock), last: clock(), left: given };
    let _restore = Restore(TIMER.with(|t| t.replace(Some(timer))), given);
    f()
}

/// Constants of the rules file, by name.
pub(crate) type Sets = BTreeMap<String, Vec<String>>;

/// What a text may name in `set("…")` and `provider("…")`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Constants {
    pub(crate) sets: Sets,
    /// `None` = any name.
    pub(crate) providers: Option<BTreeSet<String>>,
}

thread_local! {
    /// How providers are, for the evaluation that runs on this thread.
    static STATES: RefCell<Option<States>> = const { RefCell::new(None) };
}

/// Runs `f` while `provider("…")` asks `states`.
pub(crate) fn asking<T>(states: States, f: impl FnOnce() -> T) -> T {
    /// Puts the outer states back, also when `f` unwinds.
    struct Restore(Option<States>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let outer = self.0.take();
            STATES.with(|s| s.replace(outer));
        }
    }
    let _restore = Restore(STATES.with(|s| s.replace(Some(states))));
    f()
}

/// How a provider is, in the evaluation that runs on this thread.
pub(crate) fn state_of(provider: &str) -> Option<Dynamic> {
    STATES.with(|s| s.borrow().as_ref().map(|s| s.of(provider)))
}

/// An engine and the names it knows.
pub(crate) struct Sandbox {
    pub(crate) engine: Engine,
    /// Functions that text may call, with the numbers of arguments they take.
    pub(crate) functions: BTreeMap<String, BTreeSet<usize>>,
    pub(crate) constants: Constants,
    pub(crate) clock: Clock,
}

impl Sandbox {
    /// For single expressions.
    pub(crate) fn expressions(constants: &Constants) -> Self {
        let mut engine = base(&constants.sets);
        // Nothing in an expression can change a variable.
        resolve(&mut engine, |_| true);
        names_loop(&mut engine);
        engine.set_max_operations(EXPRESSION_OPERATIONS);
        engine.set_max_expr_depths(64, 32);
        engine.set_max_functions(16);
        // The engine counts all text of a list that is written out: a few answers are not too many.
        engine.set_max_string_size(values::MAX_COPIED);
        Self::of(engine, constants)
    }

    /// For policies: functions, `if`, `switch`, `for`.
    pub(crate) fn scripts(constants: &Constants, extend: impl FnOnce(&mut Engine)) -> Self {
        let mut engine = base(&constants.sets);
        resolve(&mut engine, values::is_input);
        engine.set_max_operations(SCRIPT_OPERATIONS);
        engine.set_max_expr_depths(SCRIPT_DEPTH, SCRIPT_DEPTH);
        engine.set_max_call_levels(SCRIPT_CALLS);
        engine.set_max_functions(64);
        extend(&mut engine);
        Self::of(engine, constants)
    }

    fn of(engine: Engine, constants: &Constants) -> Self {
        let mut functions: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let known = engine.collect_fn_metadata(
            None,
            |f| Some((f.metadata.name.to_string(), f.metadata.num_params)),
            true,
        );
        for (name, arity) in known {
            // Operators, getters and indexers are no names one can write.
            if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !name.contains('$') {
                functions.entry(name).or_default().insert(arity);
            }
        }
        for name in DISABLED {
            functions.remove(*name);
        }
        Sandbox { engine, functions, constants: constants.clone(), clock: tokio_clock() }
    }
}

/// The engine behind [`crate::language`], built once.
pub(crate) fn shared() -> &'static Arc<Sandbox> {
    static SHARED: OnceLock<Arc<Sandbox>> = OnceLock::new();
    SHARED.get_or_init(|| Arc::new(Sandbox::expressions(&Constants::default())))
}

/// Everything expressions and policies have in common. Neither the core nor the language-core package is
/// here: they bring `sleep`, which no limit interrupts.
fn base(sets: &Sets) -> Engine {
    let mut engine = Engine::new_raw();
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicMathPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicStringPackage::new().register_into_engine(&mut engine);
    MoreStringPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    values::register(&mut engine);
    crate::functions::register(&mut engine, sets);
    crate::gather::register(&mut engine);
    for name in DISABLED {
        engine.disable_symbol(*name);
    }
    // Nothing may be folded: the optimiser would bake the values of one request into the tree.
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_fail_on_invalid_map_property(true);
    // Limits are set explicitly: the crate's defaults differ between debug and release builds.
    engine.set_max_call_levels(16);
    engine.set_max_variables(128);
    engine.set_max_modules(0);
    engine.set_max_string_size(MAX_STRING);
    engine.set_max_array_size(MAX_ELEMENTS);
    engine.set_max_map_size(MAX_ELEMENTS);
    engine.on_progress(|_| {
        TIMER.with(|t| t.borrow_mut().as_mut().is_some_and(Timer::is_over)).then_some(Dynamic::UNIT)
    });
    engine
}

/// Reads variables that cannot change as copies (of a reference, mostly). A closure would otherwise turn
/// the variables it captures into locked ones, and `x.list.filter(|i| i > x.least)` would fail on the lock.
fn resolve(engine: &mut Engine, fixed: impl Fn(&Dynamic) -> bool + Send + Sync + 'static) {
    #[expect(deprecated, reason = "marked so only because its signature may change")]
    engine.on_var(move |name, _, context| Ok(context.scope().get(name).filter(|v| fixed(v)).cloned()));
}

/// Makes `loop` a name like any other: expressions hold no statements, and bodies of loops see `loop.index`.
fn names_loop(engine: &mut Engine) {
    #[expect(deprecated, reason = "marked so only because its signature may change")]
    engine.on_parse_token(|token, _, _| match token {
        Token::Reserved(word) if *word == "loop" => Token::Identifier(word),
        other => other,
    });
}

/// Line and column of a position, 1:1 where it has none.
pub(crate) fn place(at: Position) -> (usize, usize) {
    (at.line().unwrap_or(1), at.position().unwrap_or(1))
}
