// Command vcsim serves govmomi's vCenter simulator on loopback, for tests.
//
// The simulator ships as a library without its command; this is a small one of our own, with a control line that a test
// needs and the upstream command lacks. It is built by scripts/peers with Debian's Go (GO111MODULE=off).
//
// Standard output: first `listening URL`, then one answer a command. Standard input: one command a line; its end stops
// the process, so that a test that dies never leaves a server behind. Answers begin with `ok` or `error`:
//
//	power N             toggles the power of N virtual machines in turn    ok LATEST_KEY
//	post TYPE COUNT     posts COUNT events of a vSphere event class; for
//	                    EventEx and ExtendedEvent TYPE may be CLASS/ID     ok LATEST_KEY
//	latest              the newest event                                   ok KEY CLASS
//	sessions            sessions other than this program's own             ok COUNT
//	kill-sessions       terminates those sessions                          ok COUNT
//	collectors          event collectors that exist                        ok COUNT
//	destroy-collectors  destroys those, as their own sessions would        ok COUNT
//	quit                stops                                              ok
//
// All but the collector commands go through the real client over the real wire.
package main

import (
	"bufio"
	"container/ring"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"unsafe"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// historyLength is the simulator's own bound on the events it keeps.
const historyLength = 1000

type options struct {
	port         int
	user         string
	password     string
	virtual      int
	hosts        int
	tls          bool
	certFile     string
	keyFile      string
	instanceUUID string
	firstKey     int
}

func main() {
	var o options
	flag.IntVar(&o.port, "port", 0, "TCP port on 127.0.0.1; 0 takes any")
	flag.StringVar(&o.user, "user", "user", "the only user that may log in")
	flag.StringVar(&o.password, "password", "pass", "that user's password")
	flag.IntVar(&o.virtual, "vms", 4, "virtual machines")
	flag.IntVar(&o.hosts, "hosts", 2, "hosts")
	flag.BoolVar(&o.tls, "tls", false, "serve HTTPS, with the simulator's self-signed certificate unless -cert is given")
	flag.StringVar(&o.certFile, "cert", "", "PEM certificate chain for -tls")
	flag.StringVar(&o.keyFile, "key", "", "PEM private key for -tls")
	flag.StringVar(&o.instanceUUID, "instance-uuid", "", "the vCenter's instanceUuid; empty takes a random one")
	flag.IntVar(&o.firstKey, "first-key", 0,
		"forget the events of the start-up and number from this key: a vCenter that comes back goes on counting; 0 starts at 1")
	flag.Parse()

	if err := run(o); err != nil {
		fmt.Fprintf(os.Stderr, "vcsim: %v\n", err)
		os.Exit(1)
	}
}

func run(o options) error {
	model := simulator.VPX()
	// One cluster and no lone hosts: the counts are then exactly those asked for.
	model.Host = 0
	model.ClusterHost = o.hosts
	model.Machine = o.virtual
	defer model.Remove()
	if err := model.Create(); err != nil {
		return fmt.Errorf("create the inventory: %w", err)
	}
	if o.instanceUUID != "" {
		simulator.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content.About.InstanceUuid = o.instanceUUID
	}
	if o.firstKey > 0 {
		continueKeys(int32(o.firstKey))
	}

	login := url.UserPassword(o.user, o.password)
	model.Service.Listen = &url.URL{Host: fmt.Sprintf("127.0.0.1:%d", o.port), User: login}
	if o.tls {
		model.Service.TLS = new(tls.Config)
		if o.certFile != "" {
			pair, err := tls.LoadX509KeyPair(o.certFile, o.keyFile)
			if err != nil {
				return fmt.Errorf("load the certificate: %w", err)
			}
			model.Service.TLS.Certificates = []tls.Certificate{pair}
		}
	}
	server, err := listen(model.Service)
	if err != nil {
		return err
	}
	// The library starts serving before it hands the server out; a client that is as quick as that has no session yet.
	server.Config.Handler = newHistory(server.Config.Handler, o.user)

	ctx := context.Background()
	client, err := govmomi.NewClient(ctx, server.URL, true)
	if err != nil {
		return fmt.Errorf("log in to itself: %w", err)
	}
	control := &control{client: client, endpoint: server.URL}

	shown := *server.URL
	shown.User = nil
	fmt.Printf("listening %s\n", shown.String())

	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "quit" {
			fmt.Println("ok")
			break
		}
		answer, err := control.command(ctx, words)
		if err != nil {
			// One answer is one line, whatever a fault's text holds.
			fmt.Printf("error %s\n", strings.Join(strings.Fields(err.Error()), " "))
			continue
		}
		fmt.Printf("ok %s\n", answer)
	}
	// The server is not closed: that waits for requests such as WaitForUpdatesEx, and the process ends here anyway.
	return lines.Err()
}

// listen turns the simulator's panic at a port in use into an error.
func listen(service *simulator.Service) (server *simulator.Server, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause)
		}
	}()
	return service.NewServer(), nil
}

// private points at a private field of the simulator's event manager. The library has no call to number events from a
// key, to list collectors or to forget those of a dead session, and a real vCenter does all three.
func private(field string) unsafe.Pointer {
	return unsafe.Pointer(reflect.ValueOf(simulator.Map.EventManager()).Elem().FieldByName(field).UnsafeAddr())
}

// continueKeys empties the event history and sets the key of the next event: over a restart a real vCenter never hands a
// key out again. Call it before the server starts.
func continueKeys(next int32) {
	*(*int32)(private("key")) = next - 1
	*(**ring.Ring)(private("page")) = ring.New(historyLength)
}

// machine is a virtual machine and what it belongs to, as an event names them.
type machine struct {
	vm         types.VmEventArgument
	host       types.HostEventArgument
	cluster    types.ComputeResourceEventArgument
	datacenter types.DatacenterEventArgument
}

type control struct {
	client   *govmomi.Client
	endpoint *url.URL
	machines []machine
	turn     int
}

func (c *control) command(ctx context.Context, words []string) (string, error) {
	switch {
	case words[0] == "power" && len(words) == 2:
		count, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		if err := c.power(ctx, count); err != nil {
			return "", err
		}
		return c.latestKey(ctx)
	case words[0] == "post" && len(words) == 3:
		count, err := strconv.Atoi(words[2])
		if err != nil {
			return "", err
		}
		if err := c.post(ctx, words[1], count); err != nil {
			return "", err
		}
		return c.latestKey(ctx)
	case words[0] == "latest" && len(words) == 1:
		latest, err := c.latest(ctx)
		if err != nil {
			return "", err
		}
		class := reflect.TypeOf(latest).Elem().Name()
		return fmt.Sprintf("%d %s", latest.GetEvent().Key, class), nil
	case words[0] == "sessions" && len(words) == 1:
		others, err := c.otherSessions(ctx)
		return strconv.Itoa(len(others)), err
	case words[0] == "kill-sessions" && len(words) == 1:
		return c.killSessions(ctx)
	case words[0] == "collectors" && len(words) == 1:
		return strconv.Itoa(len(collectors())), nil
	case words[0] == "destroy-collectors" && len(words) == 1:
		return c.destroyCollectors(ctx)
	}
	return "", fmt.Errorf("no such command: %s", strings.Join(words, " "))
}

// power toggles machines one after the other, in the order of their names, and waits for each task: its events are
// posted before the answer.
func (c *control) power(ctx context.Context, count int) error {
	if err := c.findMachines(ctx); err != nil {
		return err
	}
	for i := 0; i < count; i++ {
		vm := object.NewVirtualMachine(c.client.Client, c.machines[c.turn%len(c.machines)].vm.Vm)
		c.turn++
		state, err := vm.PowerState(ctx)
		if err != nil {
			return err
		}
		toggle := vm.PowerOff
		if state == types.VirtualMachinePowerStatePoweredOff {
			toggle = vm.PowerOn
		}
		task, err := toggle(ctx)
		if err != nil {
			return err
		}
		if err := task.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *control) findMachines(ctx context.Context) error {
	if len(c.machines) > 0 {
		return nil
	}
	root := c.client.ServiceContent.RootFolder
	inventory, err := view.NewManager(c.client.Client).CreateContainerView(ctx, root, []string{"ManagedEntity"}, true)
	if err != nil {
		return err
	}
	defer func() { _ = inventory.Destroy(ctx) }()
	var entities []mo.ManagedEntity
	kinds := []string{"HostSystem", "ClusterComputeResource", "Datacenter"}
	if err := inventory.Retrieve(ctx, kinds, []string{"name"}, &entities); err != nil {
		return err
	}
	names := make(map[types.ManagedObjectReference]string)
	var common machine // the model has one datacenter with one cluster
	for _, entity := range entities {
		names[entity.Self] = entity.Name
		switch entity.Self.Type {
		case "ClusterComputeResource":
			common.cluster.ComputeResource, common.cluster.Name = entity.Self, entity.Name
		case "Datacenter":
			common.datacenter.Datacenter, common.datacenter.Name = entity.Self, entity.Name
		}
	}
	var virtual []mo.VirtualMachine
	if err := inventory.Retrieve(ctx, []string{"VirtualMachine"}, []string{"name", "runtime.host"}, &virtual); err != nil {
		return err
	}
	for _, vm := range virtual {
		found := common
		found.vm.Vm, found.vm.Name = vm.Self, vm.Name
		if host := vm.Runtime.Host; host != nil {
			found.host.Host, found.host.Name = *host, names[*host]
		}
		c.machines = append(c.machines, found)
	}
	if len(c.machines) == 0 {
		return errors.New("the inventory has no virtual machine; start with -vms")
	}
	sort.Slice(c.machines, func(a, b int) bool { return c.machines[a].vm.Name < c.machines[b].vm.Name })
	return nil
}

func (c *control) post(ctx context.Context, class string, count int) error {
	if err := c.findMachines(ctx); err != nil {
		return err
	}
	manager := event.NewManager(c.client.Client)
	for i := 0; i < count; i++ {
		posted, err := newEvent(class, c.machines[i%len(c.machines)])
		if err != nil {
			return err
		}
		if err := manager.PostEvent(ctx, posted); err != nil {
			return err
		}
	}
	return nil
}

// newEvent makes an event of CLASS or CLASS/ID about a machine. EventEx always gets a valid objectType and objectId:
// without them the simulator deadlocks for good.
func newEvent(class string, about machine) (types.BaseEvent, error) {
	id := "com.example.event-router.Test"
	if before, after, found := strings.Cut(class, "/"); found {
		class, id = before, after
	}
	kind, known := types.TypeFunc()(class)
	if !known {
		return nil, fmt.Errorf("no such event class: %s", class)
	}
	posted, isEvent := reflect.New(kind).Interface().(types.BaseEvent)
	if !isEvent {
		return nil, fmt.Errorf("not an event class: %s", class)
	}
	common, vm := posted.GetEvent(), about.vm.Vm
	common.Vm, common.Host = &about.vm, &about.host
	common.ComputeResource, common.Datacenter = &about.cluster, &about.datacenter
	switch e := posted.(type) {
	case *types.EventEx:
		e.EventTypeId, e.Severity = id, "info"
		e.ObjectType, e.ObjectId, e.ObjectName = vm.Type, vm.Value, about.vm.Name
		e.Arguments = []types.KeyAnyValue{{Key: "text", Value: "of EventEx"}, {Key: "number", Value: int32(7)}}
	case *types.ExtendedEvent:
		e.EventTypeId = id
		e.Data = []types.ExtendedEventPair{{Key: "text", Value: "of ExtendedEvent"}}
	}
	fillReferences("", reflect.ValueOf(posted).Elem(), vm)
	return posted, nil
}

// referenceTypes are the names of fields that do not hold what they are called.
var referenceTypes = map[string]string{
	"Host":            "HostSystem",
	"DestHost":        "HostSystem",
	"SourceHost":      "HostSystem",
	"Dvs":             "DistributedVirtualSwitch",
	"Ds":              "Datastore",
	"Pool":            "ResourcePool",
	"Parent":          "Folder",
	"Alarm":           "Alarm",
	"Datacenter":      "Datacenter",
	"Datastore":       "Datastore",
	"Network":         "Network",
	"Folder":          "Folder",
	"Profile":         "Profile",
	"Task":            "Task",
	"ScheduledTask":   "ScheduledTask",
	"ResourcePool":    "ResourcePool",
	"ComputeResource": "ComputeResource",
}

// fillReferences gives every reference that a class requires a value of its type: VMware's own Python client refuses the
// whole page that holds one without. A field with no name of its own in the table may be any entity: it gets the machine.
func fillReferences(field string, value reflect.Value, machine types.ManagedObjectReference) {
	if value.Kind() != reflect.Struct {
		return
	}
	if found, is := value.Addr().Interface().(*types.ManagedObjectReference); is {
		if found.Type != "" {
			return
		}
		*found = machine
		if kind, known := referenceTypes[field]; known {
			*found = types.ManagedObjectReference{Type: kind, Value: strings.ToLower(kind) + "-1"}
		}
		return
	}
	if value.Type().PkgPath() != reflect.TypeOf(machine).PkgPath() {
		return // time.Time has fields that cannot be set, and none that matters
	}
	for i := 0; i < value.NumField(); i++ {
		fillReferences(value.Type().Field(i).Name, value.Field(i), machine)
	}
}

// latest asks for a page of one: in a longer one the simulator puts its oldest event after its newest.
func (c *control) latest(ctx context.Context) (types.BaseEvent, error) {
	events, err := event.NewManager(c.client.Client).QueryEvents(ctx, types.EventFilterSpec{MaxCount: 1})
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, errors.New("the history is empty")
	}
	return events[0], nil
}

func (c *control) latestKey(ctx context.Context) (string, error) {
	latest, err := c.latest(ctx)
	if err != nil {
		return "", err
	}
	return strconv.Itoa(int(latest.GetEvent().Key)), nil
}

func (c *control) otherSessions(ctx context.Context) ([]string, error) {
	own, err := c.client.SessionManager.UserSession(ctx)
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, errors.New("this program's own session is gone")
	}
	var manager mo.SessionManager
	reference := *c.client.ServiceContent.SessionManager
	err = property.DefaultCollector(c.client.Client).RetrieveOne(ctx, reference, []string{"sessionList"}, &manager)
	if err != nil {
		return nil, err
	}
	var others []string
	for _, s := range manager.SessionList {
		if s.Key != own.Key {
			others = append(others, s.Key)
		}
	}
	return others, nil
}

// withCollectors lends the simulator's table of event collectors, under its lock.
func withCollectors(use func(map[types.ManagedObjectReference]*simulator.EventHistoryCollector)) {
	simulator.Map.WithLock(simulator.Map.EventManager(), func() {
		use(*(*map[types.ManagedObjectReference]*simulator.EventHistoryCollector)(private("collectors")))
	})
}

func collectors() []types.ManagedObjectReference {
	var references []types.ManagedObjectReference
	withCollectors(func(table map[types.ManagedObjectReference]*simulator.EventHistoryCollector) {
		for reference := range table {
			references = append(references, reference)
		}
	})
	return references
}

// owner is the key of the session that a collector belongs to: it is part of the reference, `session[KEY]UUID`.
func owner(collector types.ManagedObjectReference) string {
	key, _, _ := strings.Cut(strings.TrimPrefix(collector.Value, "session["), "]")
	return key
}

// killSessions terminates all other sessions and forgets their collectors, as a real vCenter does. The simulator alone
// keeps such collectors for good, and they count against its limit of 32.
func (c *control) killSessions(ctx context.Context) (string, error) {
	others, err := c.otherSessions(ctx)
	if err != nil || len(others) == 0 {
		return "0", err
	}
	if err := c.client.SessionManager.TerminateSession(ctx, others); err != nil {
		return "", err
	}
	dead := make(map[string]bool)
	for _, key := range others {
		dead[key] = true
	}
	withCollectors(func(table map[types.ManagedObjectReference]*simulator.EventHistoryCollector) {
		for reference := range table {
			if dead[owner(reference)] {
				delete(table, reference)
			}
		}
	})
	return strconv.Itoa(len(others)), nil
}

// destroyCollectors destroys each collector in the name of its own session: a session sees only its own.
func (c *control) destroyCollectors(ctx context.Context) (string, error) {
	destroyed := 0
	for _, reference := range collectors() {
		wire := soap.NewClient(c.endpoint, true)
		wire.Namespace, wire.Version = c.client.Client.Namespace, c.client.Client.Version
		wire.Jar.SetCookies(c.endpoint, []*http.Cookie{{Name: soap.SessionCookieName, Value: owner(reference)}})
		if _, err := methods.DestroyCollector(ctx, wire, &types.DestroyCollector{This: reference}); err != nil {
			return "", fmt.Errorf("destroy %s: %w", reference.Value, err)
		}
		destroyed++
	}
	return strconv.Itoa(destroyed), nil
}
