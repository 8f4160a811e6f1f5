package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// history stands before the simulator and answers ReadNextEvents and QueryEvents in its place, from the simulator's own
// events. The simulator of this age reads a collector newest first, and after that never returns a later event (or an
// old one again): no client can follow it. It also ignores the filter's time. Here both are as vSphere's reference has
// them: a new collector stands before its oldest event, each read goes on behind the last, an empty page is the end for
// now. All else, faults for dead sessions and unknown collectors included, stays the simulator's. Its bound stays too:
// it keeps historyLength events, and a reader that falls further behind loses the older ones.
type history struct {
	simulator http.Handler
	user      string

	mu sync.Mutex
	// read holds the key of the last event that each collector returned.
	read map[types.ManagedObjectReference]int32
}

func newHistory(simulated http.Handler, user string) *history {
	return &history{simulator: simulated, user: user, read: make(map[types.ManagedObjectReference]int32)}
}

func (h *history) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/sdk") {
		h.simulator.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	// Cheap test first: most calls are others, and decoding a body twice costs.
	if bytes.Contains(body, []byte("ReadNextEvents")) || bytes.Contains(body, []byte("QueryEvents")) ||
		bytes.Contains(body, []byte("RewindCollector")) {
		if method, err := simulator.UnmarshalBody(types.TypeFunc(), body); err == nil && h.answer(w, r, method) {
			return
		}
	}
	h.simulator.ServeHTTP(w, r)
}

// answer is false where the simulator has to answer.
func (h *history) answer(w http.ResponseWriter, r *http.Request, method *simulator.Method) bool {
	session, err := r.Cookie(soap.SessionCookieName)
	if err != nil || !h.active(session.Value) {
		return false
	}
	switch request := method.Body.(type) {
	case *types.QueryEvents:
		page := matching(request.Filter, 0)
		if limit := int(request.Filter.MaxCount); limit > 0 && len(page) > limit {
			page = page[len(page)-limit:]
		}
		respond(w, "QueryEventsResponse", &types.QueryEventsResponse{Returnval: page})
		return true
	case *types.ReadNextEvents:
		filter, found := filterOf(method.This)
		if !found || owner(method.This) != session.Value || request.MaxCount <= 0 {
			return false
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		page := matching(filter, h.read[method.This])
		if len(page) > int(request.MaxCount) {
			page = page[:request.MaxCount]
		}
		if len(page) > 0 {
			h.read[method.This] = page[len(page)-1].GetEvent().Key
		}
		respond(w, "ReadNextEventsResponse", &types.ReadNextEventsResponse{Returnval: page})
		return true
	case *types.RewindCollector:
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.read, method.This)
	}
	return false
}

func (h *history) active(session string) bool {
	body := simulator.Map.SessionManager().SessionIsActive(
		&simulator.Context{Map: simulator.Map}, &types.SessionIsActive{SessionID: session, UserName: h.user})
	answer, is := body.(*methods.SessionIsActiveBody)
	return is && answer.Res != nil && answer.Res.Returnval
}

func filterOf(collector types.ManagedObjectReference) (filter types.EventFilterSpec, found bool) {
	withCollectors(func(table map[types.ManagedObjectReference]*simulator.EventHistoryCollector) {
		if entry := table[collector]; entry != nil {
			filter, found = entry.Filter.(types.EventFilterSpec)
		}
	})
	return filter, found
}

// matching returns the kept events that pass a filter and have a key above `after`, oldest first.
func matching(filter types.EventFilterSpec, after int32) []types.BaseEvent {
	filter.MaxCount = historyLength
	var body soap.HasFault
	manager := simulator.Map.EventManager()
	simulator.Map.WithLock(manager, func() {
		body = manager.QueryEvents(nil, &types.QueryEvents{Filter: filter})
	})
	kept, is := body.(*methods.QueryEventsBody)
	if !is || kept.Res == nil {
		return nil
	}
	var page []types.BaseEvent
	for _, candidate := range kept.Res.Returnval {
		common := candidate.GetEvent()
		if common.Key <= after || filter.Time != nil && outside(filter.Time, common) {
			continue
		}
		page = append(page, candidate)
	}
	sort.Slice(page, func(a, b int) bool { return page[a].GetEvent().Key < page[b].GetEvent().Key })
	return page
}

func outside(window *types.EventFilterSpecByTime, e *types.Event) bool {
	return window.BeginTime != nil && e.CreatedTime.Before(*window.BeginTime) ||
		window.EndTime != nil && e.CreatedTime.After(*window.EndTime)
}

// answerBody puts an answer into vSphere's namespace; the generated structs leave it out.
type answerBody struct {
	name   string
	answer interface{}
}

// MarshalXML writes the SOAP body around the answer.
func (b answerBody) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	name := xml.StartElement{Name: xml.Name{Space: "urn:" + vim25.Namespace, Local: b.name}}
	if err := e.EncodeElement(b.answer, name); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

// respond writes an answer as the simulator would; its own writer is private.
func respond(w http.ResponseWriter, name string, answer interface{}) {
	type envelope struct {
		XMLName xml.Name   `xml:"soapenv:Envelope"`
		Env     string     `xml:"xmlns:soapenv,attr"`
		XSD     string     `xml:"xmlns:xsd,attr"`
		XSI     string     `xml:"xmlns:xsi,attr"`
		Body    answerBody `xml:"soapenv:Body"`
	}
	out := bytes.NewBufferString(xml.Header)
	err := xml.NewEncoder(out).Encode(&envelope{
		Env:  "http://schemas.xmlsoap.org/soap/envelope/",
		XSD:  "http://www.w3.org/2001/XMLSchema",
		XSI:  "http://www.w3.org/2001/XMLSchema-instance",
		Body: answerBody{name, answer},
	})
	if err != nil {
		http.Error(w, fmt.Sprintf("encode the answer: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}
