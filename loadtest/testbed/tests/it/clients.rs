//! Clients that others wrote: VMware's own Python SDK over SOAP, its registry of types over
//! VI/JSON, its Go client, and vim_rs. `scripts/peers` installs all but the last. Without one its
//! tests are skipped, by name, or fail under `scripts/test`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::peer::peer;
use testbed::vcenter::{Entity, Mix, Options, VCenter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyvmomi_drives_login_collectors_filters_waiting_and_faults() {
    let Some(python) = peer("python") else { return };
    let vcenter = VCenter::start(Options { backlog: 1_500, ..Options::default() }).await.unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyvmomi_client.py"));
    command.args([vcenter.port().to_string(), "1500".into(), vcenter.instance_uuid().to_string()]);
    expect_ok(command).await;
    assert_eq!(vcenter.counters().collectors_peak, 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyvmomi_walks_the_inventory_searches_it_filters_events_and_pages_both_ways() {
    let Some(python) = peer("python") else { return };
    let (backlog, vms, hosts) = (1_100, 40, 6);
    let vcenter = VCenter::start(Options { backlog, vms, hosts, ..Options::default() }).await.unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyvmomi_inventory.py"));
    command.args([vcenter.port().to_string(), backlog.to_string(), vms.to_string(), hosts.to_string()]);
    expect_ok(command).await;
    assert_eq!(vcenter.counters().collectors_open, 0);
}

/// VMware's simulator, which ends when its standard input does.
struct Vcsim {
    child: Child,
    port: String,
}

impl Vcsim {
    fn start(program: &Path) -> Vcsim {
        let mut command = Command::new(program);
        command.args(["-vms", "8", "-hosts", "2", "-user", "user", "-password", "pass"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once("/sdk").and_then(|(url, _)| url.rsplit_once(':'));
        let port = port.unwrap_or_else(|| panic!("vcsim's first line is {line:?}")).1.to_owned();
        Vcsim { child, port }
    }
}

impl Drop for Vcsim {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_have_the_shape_of_vcsim_answers() {
    let (Some(python), Some(vcsim)) = (peer("python"), peer("vcsim")) else { return };
    let vcenter =
        VCenter::start(Options { backlog: 500, vms: 8, hosts: 2, ..Options::default() }).await.unwrap();
    let vcsim = Vcsim::start(&vcsim);
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyvmomi_shape.py"));
    command.args([vcenter.port().to_string().as_str(), "administrator@vsphere.local", "VMware1!"]);
    command.args([vcsim.port.as_str(), "user", "pass"]);
    expect_ok(command).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn govmomi_lists_finds_searches_and_shows_events_as_govc_does() {
    let Some(program) = peer("govmomi") else { return };
    let (backlog, vms, hosts) = (2_000, 25, 3);
    let vcenter = VCenter::start(Options { backlog, vms, hosts, ..Options::default() }).await.unwrap();
    let url = format!("http://administrator%40vsphere.local:VMware1!@127.0.0.1:{}/sdk", vcenter.port());
    let run = async |arguments: &[&str]| -> Vec<String> {
        let mut command = Command::new(&program);
        command.arg(&url).args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    };
    assert_eq!(run(&["ls", "/"]).await, ["Datacenter /DC-FRA-01"]);
    let folders = ["vm", "host", "datastore", "network"].map(|name| format!("Folder /DC-FRA-01/{name}"));
    assert_eq!(run(&["ls", "/DC-FRA-01"]).await, folders);
    let machines: Vec<String> =
        (0..vms).map(|vm| format!("VirtualMachine /DC-FRA-01/vm/app-{vm:06}")).collect();
    assert_eq!(run(&["ls", "vm"]).await, machines);
    let mut found = run(&["find", "VirtualMachine", "app-00000*"]).await;
    found.sort();
    assert_eq!(found, machines[..10]);
    let cluster = "/DC-FRA-01/host/CL-Prod-01";
    let mut below = run(&["ls", cluster]).await;
    below.sort();
    let mut expected: Vec<String> =
        (0..hosts).map(|host| format!("HostSystem {cluster}/esx-{host:04}.lab.local")).collect();
    expected.push(format!("ResourcePool {cluster}/Resources"));
    assert_eq!(below, expected);

    let info = run(&["vm.info", "app-00000[78]"]).await;
    let words: Vec<Vec<&str>> = info.iter().map(|line| line.split(' ').collect()).collect();
    for (number, words) in (7..).zip(&words) {
        assert_eq!(words[0], format!("app-{number:06}"));
        assert!(uuid::Uuid::parse_str(words[1]).is_ok(), "{words:?}");
        assert_eq!(
            words[6..],
            [format!("esx-{:04}.lab.local", number % hosts).as_str(), "vsan-01", "VM_Network"]
        );
        assert_eq!(words[5] == "-", words[4] == "poweredOff", "{words:?}");
    }
    assert_eq!(words.len(), 2);

    let newest = |count: usize, about: &dyn Fn(Entity) -> bool| -> Vec<i32> {
        let facts = (0..backlog).rev().map(|index| vcenter.fact(index).unwrap());
        let mut keys: Vec<i32> =
            facts.filter(|fact| about(fact.entity)).map(|fact| fact.key).take(count).collect();
        keys.reverse();
        keys
    };
    let keys = |lines: &[String], object: &str| -> Vec<i32> {
        let about = lines.iter().filter_map(|line| line.strip_prefix(object)?.strip_prefix(' '));
        about.map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    let lines = run(&["events", "4", "/DC-FRA-01/vm/app-000007", "vm/app-000008"]).await;
    for vm in [7, 8] {
        let expected = newest(4, &|entity| entity == Entity::Vm(vm));
        assert_eq!(keys(&lines, &format!("VirtualMachine:vm-{}", 1_000_000 + vm)), expected);
    }
    assert_eq!(lines.len(), 8);
    assert!(lines.iter().all(|line| line.split(' ').nth(2) == Some("info")), "{lines:?}");
    assert_eq!(keys(&run(&["events", "25", "/"]).await, "Folder:group-d1"), newest(25, &|_| true));

    let found = run(&["search", "DC-FRA-01/vm/app-000009", "10.255.0.1", "esx-0002.lab.local"]).await;
    assert_eq!(found, ["VirtualMachine:vm-1000009", "-", "HostSystem:host-10002"]);
    let counters = vcenter.counters();
    assert_eq!((counters.sessions_open, counters.collectors_open), (0, 0));
}

/// Runs a client to its end, which must be `ok`.
async fn expect_ok(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.lines().last() == Some("ok"), "{stdout}\n{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vijson_value_matches_the_type_registry_of_vmware() {
    let Some(python) = peer("python") else { return };
    for mix in [Mix::Steady, Mix::EventExHeavy, Mix::LargeTasks] {
        let few_classes = mix != Mix::Steady;
        let vcenter = VCenter::start(Options { backlog: 1_500, mix, ..Options::default() }).await.unwrap();
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vijson_client.py"));
        command.args([vcenter.port().to_string(), "1500".into(), vcenter.instance_uuid().to_string()]);
        command.arg(if few_classes { "1" } else { "10" });
        expect_ok(command).await;
    }
}

/// vim_rs takes minutes and gigabytes to compile, so it is built by hand: see `vim_rs/Cargo.toml`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vim_rs_drives_login_collectors_waiting_and_faults_over_vijson() {
    let Some(client) = std::env::var_os("VIM_RS_CLIENT") else {
        println!("skipped: vim_rs");
        return;
    };
    let options = Options { backlog: 1_500, ..Options::default() };
    let vcenter = VCenter::start(options.clone()).await.unwrap();
    let mut command = Command::new(client);
    command.args([&vcenter.port().to_string(), "1500", &options.user, &options.password]);
    expect_ok(command).await;
    assert_eq!(vcenter.counters().calls_of("Logout"), 1);
}
