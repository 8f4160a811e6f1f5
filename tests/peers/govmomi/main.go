// Command govmomi makes the calls of govc's ls, find, vm.info and events, for tests of the
// synthetic vCenter.
//
// Debian ships govmomi without govc. The commands here go through the packages that govc's go
// through (find, list, property, view, event), so that the same requests reach the server. It is
// built by scripts/peers with Debian's Go.
//
//	govmomi URL ls PATH             children of PATH   TYPE PATH
//	govmomi URL find KIND NAME      found by a view    TYPE PATH
//	govmomi URL vm.info NAME        of every match     NAME UUID CPUS MB POWER IP HOST DATASTORES NETWORKS
//	govmomi URL events N PATH...    the newest N each  OBJECT KEY CATEGORY CLASS MESSAGE
//	govmomi URL search PATH IP DNS  by SearchIndex     TYPE:ID of each, `-` for none
//
// One line a result on standard output; an error is one line on standard error and status 1.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/event"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("usage: govmomi URL ls|find|vm.info|events|search ARGUMENT...")
	}
	address, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	client, err := govmomi.NewClient(ctx, address, true)
	if err != nil {
		return err
	}
	defer func() { _ = client.Logout(ctx) }()
	finder := find.NewFinder(client.Client, false)
	datacenter, err := finder.DefaultDatacenter(ctx)
	if err != nil {
		return err
	}
	finder.SetDatacenter(datacenter)
	command, args := args[1], args[2:]
	switch {
	case command == "ls" && len(args) == 1:
		return list(ctx, finder, args[0])
	case command == "find" && len(args) == 2:
		return search(ctx, client, finder, args[0], args[1])
	case command == "vm.info" && len(args) == 1:
		return info(ctx, client, finder, args[0])
	case command == "events" && len(args) >= 2:
		return events(ctx, client, finder, args[0], args[1:])
	case command == "search" && len(args) == 3:
		return index(ctx, client, datacenter, args)
	}
	return fmt.Errorf("unknown command or wrong arguments: %s %s", command, strings.Join(args, " "))
}

func list(ctx context.Context, finder *find.Finder, path string) error {
	elements, err := finder.ManagedObjectListChildren(ctx, path)
	if err != nil {
		return err
	}
	for _, element := range elements {
		fmt.Println(element.Object.Reference().Type, element.Path)
	}
	return nil
}

func search(ctx context.Context, client *govmomi.Client, finder *find.Finder, kind, name string) error {
	manager := view.NewManager(client.Client)
	container, err := manager.CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{kind}, true)
	if err != nil {
		return err
	}
	defer func() { _ = container.Destroy(ctx) }()
	refs, err := container.Find(ctx, []string{kind}, property.Filter{"name": name})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		element, err := finder.Element(ctx, ref)
		if err != nil {
			return err
		}
		fmt.Println(ref.Type, element.Path)
	}
	return nil
}

func info(ctx context.Context, client *govmomi.Client, finder *find.Finder, name string) error {
	found, err := finder.VirtualMachineList(ctx, name)
	if err != nil {
		return err
	}
	var refs []types.ManagedObjectReference
	for _, vm := range found {
		refs = append(refs, vm.Reference())
	}
	collector := property.DefaultCollector(client.Client)
	var vms []mo.VirtualMachine
	paths := []string{"summary", "guest.ipAddress", "datastore", "network", "config.tools"}
	if err := collector.Retrieve(ctx, refs, paths, &vms); err != nil {
		return err
	}
	for _, vm := range vms {
		names := func(refs ...types.ManagedObjectReference) (string, error) {
			var all []string
			for _, ref := range refs {
				entity, err := finder.Element(ctx, ref)
				if err != nil {
					return "", err
				}
				all = append(all, entity.Path[strings.LastIndex(entity.Path, "/")+1:])
			}
			return strings.Join(all, ","), nil
		}
		host, err := names(*vm.Summary.Runtime.Host)
		if err != nil {
			return err
		}
		datastores, err := names(vm.Datastore...)
		if err != nil {
			return err
		}
		networks, err := names(vm.Network...)
		if err != nil {
			return err
		}
		config, ip := vm.Summary.Config, "-"
		if vm.Guest != nil && vm.Guest.IpAddress != "" {
			ip = vm.Guest.IpAddress
		}
		fmt.Println(config.Name, config.Uuid, config.NumCpu, config.MemorySizeMB, vm.Summary.Runtime.PowerState, ip,
			host, datastores, strings.ReplaceAll(networks, " ", "_"))
	}
	return nil
}

func events(ctx context.Context, client *govmomi.Client, finder *find.Finder, count string, paths []string) error {
	size, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var refs []types.ManagedObjectReference
	for _, path := range paths {
		elements, err := finder.ManagedObjectList(ctx, path)
		if err != nil {
			return err
		}
		if len(elements) == 0 {
			return fmt.Errorf("object '%s' not found", path)
		}
		for _, element := range elements {
			refs = append(refs, element.Object.Reference())
		}
	}
	manager := event.NewManager(client.Client)
	print := func(ref types.ManagedObjectReference, page []types.BaseEvent) error {
		event.Sort(page)
		for _, each := range page {
			category, err := manager.EventCategory(ctx, each)
			if err != nil {
				return err
			}
			base, class := each.GetEvent(), reflect.TypeOf(each).Elem().Name()
			message := strings.Join(strings.Fields(base.FullFormattedMessage), " ")
			fmt.Println(ref, base.Key, category, class, message)
		}
		return nil
	}
	return manager.Events(ctx, refs, int32(size), false, false, print)
}

func index(ctx context.Context, client *govmomi.Client, datacenter *object.Datacenter, args []string) error {
	si := object.NewSearchIndex(client.Client)
	print := func(ref object.Reference, err error) error {
		if err != nil {
			return err
		}
		if ref == nil {
			fmt.Println("-")
		} else {
			fmt.Println(ref.Reference())
		}
		return nil
	}
	if err := print(si.FindByInventoryPath(ctx, args[0])); err != nil {
		return err
	}
	if err := print(si.FindByIp(ctx, datacenter, args[1], true)); err != nil {
		return err
	}
	return print(si.FindByDnsName(ctx, datacenter, args[2], false))
}
