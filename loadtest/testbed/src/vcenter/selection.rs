//! The PropertyCollector's specs: a spec starts at some objects, follows traversals to others, and
//! names the properties to read of each.
//!
//! ```text
//! objectSet: obj ─► selectSet: type, path ─► objects ─► … ─► found, each once
//! propSet: type, paths ──────────────────────────────────► (object, paths to read)
//! ```

use std::collections::{HashMap, HashSet};

use super::model::Model;
use super::property::{ObjectReference, Value, all_paths, read, write_reference};
use super::protocol::Fault;
use super::world::{Shared, World};
use super::xml::{Node, escaped};

/// Largest depth of traversals. Deeper ones are a client's mistake, because the inventory is six
/// levels deep.
const TRAVERSAL_DEPTH_MAX: usize = 16;

/// A `PropertyFilterSpec`, or one element of `RetrieveProperties`' specSet.
#[derive(Clone)]
pub(crate) struct SelectionSpec(pub Node);

/// An object and the paths to read of it.
pub(crate) type SelectedObject = (ObjectReference, Vec<String>);

impl SelectionSpec {
    /// The objects that this spec selects now, each with the paths to read.
    ///
    /// # Errors
    /// A starting object that does not exist.
    pub fn select(
        &self,
        shared: &Shared,
        world: &mut World,
        session: Option<&str>,
        now_us: i64,
    ) -> Result<Vec<SelectedObject>, Fault> {
        let model = &shared.model;
        let mut selection =
            Selection { shared, world, session, now_us, found: Vec::new(), seen: HashSet::new() };
        // First the objects, each once.
        for set in self.0.all("objectSet") {
            let Some(start) = set.child("obj").map(ObjectReference::of) else { continue };
            selection.check_exists(&start)?;
            let mut named: HashMap<&str, &Node> = HashMap::new();
            name_traversals(set, &mut named);
            if !set.is_true("skip") {
                selection.add(&start);
            }
            selection.traverse(&start, set, &named, 0);
        }
        // Then the paths that the property sets name for each object's type.
        let mut wanted = Vec::new();
        for target in selection.found {
            let mut paths: Vec<String> = Vec::new();
            let mut matched = false;
            for set in self.0.all("propSet") {
                if !is_a(model, &target, type_of(set)) {
                    continue;
                }
                matched = true;
                if set.is_true("all") {
                    paths.extend(all_paths(&target).into_iter().map(str::to_owned));
                }
                paths.extend(set.all("pathSet").map(|path| path.text.trim().to_owned()));
            }
            if matched {
                // A cluster may match one set for itself and another for a ComputeResource.
                paths.sort_unstable();
                paths.dedup();
                wanted.push((target, paths));
            }
        }
        Ok(wanted)
    }
}

/// One selection in progress: the objects in the order in which they were found, each once.
struct Selection<'a> {
    shared: &'a Shared,
    world: &'a mut World,
    session: Option<&'a str>,
    now_us: i64,
    found: Vec<ObjectReference>,
    seen: HashSet<ObjectReference>,
}

impl Selection<'_> {
    fn add(&mut self, target: &ObjectReference) {
        if self.seen.insert(target.clone()) {
            self.found.push(target.clone());
        }
    }

    fn check_exists(&self, target: &ObjectReference) -> Result<(), Fault> {
        let session = self.session.and_then(|key| self.world.sessions.get(key));
        let known = matches!(
            target.id.as_str(),
            "ServiceInstance"
                | "SessionManager"
                | "EventManager"
                | "propertyCollector"
                | "ViewManager"
                | "SearchIndex"
        ) || session.is_some_and(|session| {
            session.collectors.contains_key(&target.id) || session.views.contains_key(&target.id)
        });
        if known { Ok(()) } else { target.resolve(&self.shared.model).map(|_| ()) }
    }

    /// Adds the objects that the traversals in `sets` reach from `from`. A property that cannot be
    /// read ends the traversal.
    fn traverse<'n>(
        &mut self,
        from: &ObjectReference,
        sets: &'n Node,
        named: &HashMap<&'n str, &'n Node>,
        depth: usize,
    ) {
        if depth > TRAVERSAL_DEPTH_MAX {
            return;
        }
        for set in sets.all("selectSet") {
            // A set with a name and without a path refers to the set of this name.
            let set = match (set.text_of("path"), set.text_of("name")) {
                (None, Some(name)) => match named.get(name.trim()) {
                    Some(set) => set,
                    None => continue,
                },
                _ => set,
            };
            if !is_a(&self.shared.model, from, type_of(set)) {
                continue;
            }
            let path = set.text_of("path").unwrap_or_default().trim();
            let next = match read(self.shared, self.world, self.session, from, path, self.now_us) {
                Ok(Some(Value::Reference(target))) => vec![target],
                Ok(Some(Value::References(targets))) => targets,
                _ => continue,
            };
            for target in next {
                if !set.is_true("skip") {
                    self.add(&target);
                }
                self.traverse(&target, set, named, depth + 1);
            }
        }
    }
}

/// The type that a property set or traversal applies to.
fn type_of(set: &Node) -> &str {
    set.text_of("type").unwrap_or_default().trim()
}

fn is_a(model: &Model, target: &ObjectReference, kind: &str) -> bool {
    target.kind == kind || target.find(model).is_some_and(|object| object.is_a(kind))
}

/// Collects the named traversals, at all depths.
fn name_traversals<'a>(sets: &'a Node, named: &mut HashMap<&'a str, &'a Node>) {
    for set in sets.all("selectSet") {
        if set.child("path").is_some()
            && let Some(name) = set.text_of("name")
        {
            named.insert(name.trim(), set);
        }
        name_traversals(set, named);
    }
}

/// Writes `<obj>` and the `<propSet>`s of one object.
///
/// # Errors
/// A property does not exist.
pub(crate) fn write_object(
    shared: &Shared,
    world: &mut World,
    session: Option<&str>,
    wanted: &SelectedObject,
    now_us: i64,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let (target, paths) = wanted;
    write_reference(out, "obj", target);
    for path in paths {
        if let Some(value) = read(shared, world, session, target, path, now_us)? {
            out.extend_from_slice(format!("<propSet><name>{}</name>", escaped(path)).as_bytes());
            value.write(shared, out, "val");
            out.extend_from_slice(b"</propSet>");
        }
    }
    Ok(())
}
