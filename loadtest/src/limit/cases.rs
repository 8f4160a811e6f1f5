//! The cases of a limit search. Each is a workload whose highest rate is searched for.

use std::time::Duration;

use crate::workload::{Delay, Ordering, Shape, Workload};

/// The response time of the function in the OpenFaaS case.
const FUNCTION: Duration = Duration::from_millis(20);
/// The response time of AWS in the EventBridge case.
const PUT_EVENTS: Duration = Duration::from_millis(10);

/// One search.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// The workload. The search replaces its rate, events and duration.
    pub workload: Workload,
    /// CPU cores of the router. The generator uses the others, if there are any.
    pub cpus: Option<Vec<usize>>,
    /// The first rate to try, which even a small machine handles.
    pub from: f64,
}

impl Case {
    pub fn new(name: &str, workload: Workload) -> Case {
        let from = match workload.target.shape {
            Shape::Batched => 20_000.0,
            Shape::Structured | Shape::Binary => 2_000.0,
            Shape::Eventbridge => 1_000.0,
            Shape::Openfaas => 100.0,
        };
        Case { name: name.to_owned(), workload, cpus: None, from }
    }
}

fn shaped(base: &Workload, shape: Shape, ordering: Ordering, delay: Delay) -> Workload {
    let mut workload = base.clone();
    (workload.target.shape, workload.target.ordering, workload.target.delay) = (shape, ordering, delay);
    workload
}

fn batched(base: &Workload) -> Workload {
    shaped(base, Shape::Batched, base.target.ordering, base.target.delay)
}

fn per_event(base: &Workload) -> Workload {
    shaped(base, Shape::Structured, Ordering::None, base.target.delay)
}

/// The two shapes that most users have.
pub fn usual(base: &Workload) -> Vec<Case> {
    vec![Case::new("batched", batched(base)), Case::new("per event", per_event(base))]
}

/// Variations of one parameter at a time. The product of all of them would take days and say little
/// more.
pub fn full(base: &Workload, cores: usize) -> Vec<Case> {
    let mut cases = usual(base);
    let mut add = |name: &str, workload: Workload| cases.push(Case::new(name, workload));
    add(
        "OpenFaaS, a function of 20 ms",
        shaped(base, Shape::Openfaas, Ordering::Entity, Delay::Fixed(FUNCTION)),
    );
    add("EventBridge", shaped(base, Shape::Eventbridge, Ordering::None, Delay::Fixed(PUT_EVENTS)));
    for vcenters in [4, 16, 64] {
        add(&format!("batched, {vcenters} vCenters"), Workload { vcenters, ..batched(base) });
    }
    add("batched, pages over HTTPS", Workload { https: true, ..batched(base) });
    for (name, mut workload) in [("batched", batched(base)), ("per event", per_event(base))] {
        (workload.https, workload.target.https) = (true, true);
        add(&format!("{name}, HTTPS on both sides"), workload);
    }
    for (name, mut workload) in [("batched", batched(base)), ("per event", per_event(base))] {
        workload.target.spill = false;
        add(&format!("{name}, no spill"), workload);
    }
    for count in router_cores(cores) {
        let name = format!("batched, router on {count} core{}", if count == 1 { "" } else { "s" });
        cases.push(Case { cpus: Some((0..count).collect()), ..Case::new(&name, batched(base)) });
    }
    cases
}

/// 1, 2, 4, … while at least one core is left for the generator.
fn router_cores(cores: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |count| Some(count * 2)).take_while(move |count| *count < cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_list_has_every_shape_scale_and_way() {
        let base = Workload::parse("w", "rate: 1\nduration: 1s").unwrap();
        let cases = full(&base, 8);
        let has = |wanted: &dyn Fn(&Workload) -> bool| cases.iter().any(|case| wanted(&case.workload));
        for shape in [Shape::Batched, Shape::Structured, Shape::Openfaas, Shape::Eventbridge] {
            assert!(has(&|workload| workload.target.shape == shape), "{shape:?}");
        }
        for vcenters in [1, 4, 16, 64] {
            assert!(has(&|workload| workload.vcenters == vcenters), "{vcenters}");
        }
        assert!(has(&|workload| workload.https && !workload.target.https));
        assert!(has(&|workload| workload.https && workload.target.https));
        assert!(has(&|workload| !workload.target.spill) && has(&|workload| workload.target.spill));
        let pinned: Vec<usize> = cases.iter().filter_map(|case| Some(case.cpus.as_ref()?.len())).collect();
        assert_eq!(pinned, [1, 2, 4]);
        let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "names are keys of a comparison");
    }
}
