//! The vCenter's description of itself: service content, sessions and event types, as XML inside an
//! element that the caller writes.

use super::clock::format_micros;
use super::inventory::ROOT;
use super::protocol::API_VERSION;
use super::world::{Session, Shared};
use super::xml::escaped;

/// `AboutInfo`, field by field.
pub(crate) fn about(shared: &Shared) -> Vec<(&'static str, String)> {
    [
        ("name", shared.name.as_str()),
        ("fullName", "VMware vCenter Server 8.0.2 build-22617221 (synthetic)"),
        ("vendor", "VMware, Inc."),
        ("version", "8.0.2"),
        ("patchLevel", "00000"),
        ("build", "22617221"),
        ("localeVersion", "INTL"),
        ("localeBuild", "000"),
        ("osType", "linux-x64"),
        ("productLineId", "vpx"),
        ("apiType", "VirtualCenter"),
        ("apiVersion", API_VERSION),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .chain([
        ("instanceUuid", shared.uuid.to_string()),
        ("licenseProductName", "VMware VirtualCenter Server".to_owned()),
        ("licenseProductVersion", "8.0".to_owned()),
    ])
    .collect()
}

pub(crate) fn service_content(shared: &Shared) -> Vec<u8> {
    let mut out = format!(
        "<rootFolder type=\"Folder\">{ROOT}</rootFolder>\
         <propertyCollector type=\"PropertyCollector\">propertyCollector</propertyCollector>\
         <viewManager type=\"ViewManager\">ViewManager</viewManager><about>"
    )
    .into_bytes();
    for (name, value) in about(shared) {
        out.extend_from_slice(format!("<{name}>{}</{name}>", escaped(&value)).as_bytes());
    }
    out.extend_from_slice(
        b"</about><sessionManager type=\"SessionManager\">SessionManager</sessionManager>\
          <eventManager type=\"EventManager\">EventManager</eventManager>\
          <searchIndex type=\"SearchIndex\">SearchIndex</searchIndex>",
    );
    out
}

pub(crate) fn user_session(key: &str, session: &Session, now_us: i64) -> Vec<u8> {
    let (login, now) = (format_micros(session.login_us), format_micros(now_us));
    let (user, agent) = (escaped(&session.user), escaped(&session.user_agent));
    format!(
        "<key>{key}</key><userName>{user}</userName><fullName>{user}</fullName><loginTime>{login}</loginTime>\
         <lastActiveTime>{now}</lastActiveTime><locale>en</locale><messageLocale>en</messageLocale>\
         <extensionSession>false</extensionSession><ipAddress>127.0.0.1</ipAddress><userAgent>{agent}</userAgent>\
         <callCount>{}</callCount>",
        session.calls
    )
    .into_bytes()
}

pub(crate) fn event_description(shared: &Shared) -> Vec<u8> {
    let mut out = categories("category");
    out.extend_from_slice(&event_info(shared, "eventInfo"));
    out
}

pub(crate) fn categories(element: &str) -> Vec<u8> {
    ["info", "warning", "error", "user"]
        .map(|key| {
            format!("<{element}><label>{key}</label><summary>{key}</summary><key>{key}</key></{element}>")
        })
        .concat()
        .into_bytes()
}

/// One `EventDescriptionEventDetail` for each template. As on a real server, all EventEx types have
/// the key `EventEx`, and `fullFormat` holds their own id before a `|`.
pub(crate) fn event_info(shared: &Shared, element: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut seen: Vec<&str> = Vec::new();
    for template in shared.model.templates() {
        let name = template.event_type_id.as_deref().unwrap_or(&template.class);
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let class = &template.class;
        let full = match &template.event_type_id {
            Some(id) => format!("{id}|{{message}}"),
            None => format!("{class} {{userName}}"),
        };
        out.push_str(&format!(
            "<{element}><key>{class}</key><description>{name}</description><category>{}</category>\
             <formatOnDatacenter></formatOnDatacenter><formatOnComputeResource></formatOnComputeResource>\
             <formatOnHost></formatOnHost><formatOnVm></formatOnVm><fullFormat>{full}</fullFormat></{element}>",
            template.category()
        ));
    }
    out.into_bytes()
}
