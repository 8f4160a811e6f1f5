//! `EventFilterSpec`: which events a collector or a query returns.

use super::clock::parse_micros;
use super::history::Special;
use super::inventory::{self, Scope};
use super::model::Model;
use super::soap::Fault;
use super::xml::Node;

/// A filter, compiled against the templates: a page of an unfiltered collector must cost nothing per event.
#[derive(Clone)]
pub(crate) struct Filter {
    pub begin_us: Option<i64>,
    pub end_us: Option<i64>,
    pub max_count: Option<usize>,
    /// `disableFullMessage`.
    pub brief: bool,
    scope: Scope,
    type_ids: Vec<String>,
    users: Option<Users>,
    /// Per template, whether type and user let it through; `None` if all pass.
    templates: Option<Vec<bool>>,
    /// As it came, for the property `filter`.
    spec: Node,
}

#[derive(Clone)]
struct Users {
    system: bool,
    names: Vec<String>,
}

impl Users {
    fn pass(&self, user: &str) -> bool {
        if user.is_empty() { self.system } else { self.names.iter().any(|name| name == user) }
    }
}

impl Filter {
    /// # Errors
    /// A time that is not one, a recursion that does not exist, an entity that is not in the inventory.
    pub fn parse(spec: Option<&Node>, model: &Model) -> Result<Filter, Fault> {
        let spec = spec.cloned().unwrap_or_default();
        let time = |name: &str| -> Result<Option<i64>, Fault> {
            match spec.child("time").and_then(|time| time.text_of(name)) {
                None => Ok(None),
                Some(text) => match parse_micros(text) {
                    Some(micros) => Ok(Some(micros)),
                    None => Err(Fault::invalid_argument(&format!("filter.time.{name}"))),
                },
            }
        };
        let begin_us = time("beginTime")?;
        let end_us = time("endTime")?;
        let max_count = match spec.text_of("maxCount") {
            None => None,
            Some(text) => match text.trim().parse::<i64>() {
                Ok(count) if count > 0 => Some(count as usize),
                _ => return Err(Fault::invalid_argument("filter.maxCount")),
            },
        };
        let scope = match spec.child("entity") {
            None => Scope::All,
            Some(by_entity) => {
                let entity = by_entity.child("entity").cloned().unwrap_or_default();
                let kind = entity.reference_type.as_deref().unwrap_or_default();
                let recursion = by_entity.text_of("recursion").unwrap_or_default().trim();
                if !matches!(recursion, "self" | "children" | "all") {
                    return Err(Fault::invalid_argument("filter.entity.recursion"));
                }
                inventory::scope(model, kind, entity.text.trim(), recursion)
                    .ok_or_else(|| Fault::not_found(kind, entity.text.trim()))?
            }
        };
        let type_ids: Vec<String> =
            spec.all("eventTypeId").chain(spec.all("type")).map(|id| id.text.trim().to_owned()).collect();
        let users = spec.child("userName").map(|users| Users {
            system: users.is_true("systemUser"),
            names: users.all("userList").map(|name| name.text.clone()).collect(),
        });
        let mut filter = Filter {
            begin_us,
            end_us,
            max_count,
            brief: spec.is_true("disableFullMessage"),
            scope,
            type_ids,
            users,
            templates: None,
            spec,
        };
        if !filter.type_ids.is_empty() || filter.users.is_some() {
            let passes = model.templates().iter().map(|template| {
                (filter.type_ids.is_empty() || filter.type_ids.iter().any(|id| template.is_a(id)))
                    && filter.users.as_ref().is_none_or(|users| users.pass(template.user()))
            });
            filter.templates = Some(passes.collect());
        }
        Ok(filter)
    }

    /// Whether only the time bounds matter.
    pub fn passes_all(&self) -> bool {
        self.templates.is_none() && self.scope == Scope::All
    }

    pub fn passes(&self, model: &Model, index: u64, special: Option<&Special>) -> bool {
        if let Some(special) = special {
            let by_type = self.type_ids.is_empty()
                || self.type_ids.iter().any(|id| {
                    id == "Event" || *id == special.class || special.event_type_id.as_ref() == Some(id)
                });
            return by_type && self.users.as_ref().is_none_or(|users| users.pass(&special.user));
        }
        let pick = model.pick(index);
        let by_template = self.templates.as_ref().is_none_or(|templates| templates[pick.template]);
        by_template
            && match self.scope {
                Scope::All => true,
                Scope::Nothing => false,
                Scope::Vm(vm) => model.concerns_vm(pick, vm),
                Scope::Host(host) => model.concerns_host(pick, host),
            }
    }

    /// The property `filter` of a collector.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.spec.write_inner(out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Mix, ModelSpec};
    use super::super::xml;
    use super::*;

    fn model() -> Model {
        Model::new(ModelSpec { seed: 1, vms: 100, hosts: 10, mix: Mix::Steady }).unwrap()
    }

    fn parse(text: &str) -> Result<Filter, Fault> {
        Filter::parse(Some(&xml::parse(text.as_bytes()).unwrap()), &model())
    }

    #[test]
    fn a_filter_selects_what_it_says() {
        let model = model();
        let check = |spec: &str, expected: &dyn Fn(u64) -> bool| {
            let filter = parse(spec).unwrap();
            for index in 0..2_000 {
                assert_eq!(filter.passes(&model, index, None), expected(index), "{spec} event {index}");
            }
        };
        check("<f/>", &|_| true);
        check("<f><eventTypeId>VmPoweredOnEvent</eventTypeId></f>", &|index| {
            matches!(model.class(index), "VmPoweredOnEvent" | "DrsVmPoweredOnEvent")
        });
        check("<f><eventTypeId>com.vmware.sso.LoginSuccess</eventTypeId></f>", &|index| {
            model.event_type_id(index) == Some("com.vmware.sso.LoginSuccess")
        });
        check("<f><eventTypeId>SessionEvent</eventTypeId></f>", &|index| {
            model.class(index).contains("Session")
        });
        check("<f><userName><systemUser>true</systemUser></userName></f>", &|index| {
            model.templates()[model.pick(index).template].user().is_empty()
        });
        check(
            "<f><entity><entity type='VirtualMachine'>vm-1000007</entity><recursion>self</recursion></entity></f>",
            &|index| model.concerns_vm(model.pick(index), 7),
        );
        check(
            "<f><entity><entity type='Folder'>group-d1</entity><recursion>all</recursion></entity></f>",
            &|_| true,
        );
    }

    #[test]
    fn wrong_filters_are_faults() {
        for (spec, kind) in [
            ("<f><time><beginTime>soon</beginTime></time></f>", "InvalidArgument"),
            ("<f><maxCount>0</maxCount></f>", "InvalidArgument"),
            (
                "<f><entity><entity type='Folder'>group-d1</entity><recursion>up</recursion></entity></f>",
                "InvalidArgument",
            ),
            (
                "<f><entity><entity type='Folder'>group-d9</entity><recursion>all</recursion></entity></f>",
                "ManagedObjectNotFound",
            ),
        ] {
            assert_eq!(parse(spec).err().unwrap().kind, kind, "{spec}");
        }
        let time = parse("<f><time><endTime>1970-01-01T00:00:00.000005Z</endTime></time></f>").unwrap();
        assert_eq!(time.end_us, Some(5));
    }
}
