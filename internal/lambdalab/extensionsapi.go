package lambdalab

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"time"
)

// extension is a registered extension. All but events is guarded by the
// service's mutex.
type extension struct {
	name    string
	invokes bool // wants INVOKE events
	ends    bool // wants the SHUTDOWN event
	ready   bool // has asked for its first event
	busy    bool // has an INVOKE event and has not asked for the next one
	events  chan extensionEvent
}

// extensionEvent is what an extension gets.
type extensionEvent struct {
	EventType  string `json:"eventType"`
	DeadlineMS int64  `json:"deadlineMs"`

	// Of INVOKE.
	RequestID   string            `json:"requestId,omitempty"`
	FunctionARN string            `json:"invokedFunctionArn,omitempty"`
	Tracing     *extensionTracing `json:"tracing,omitempty"`

	// Of SHUTDOWN.
	Reason string `json:"shutdownReason,omitempty"`
}

type extensionTracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// invoke tells the extension of an invocation, if it wants to know.
func (x *extension) invoke(inv *invocation, arn string) {
	if !x.invokes {
		return
	}
	x.busy = true
	// There is room: it has asked for its next event since the one before.
	x.events <- extensionEvent{
		EventType: "INVOKE", DeadlineMS: inv.deadline.UnixMilli(),
		RequestID: inv.id, FunctionARN: arn,
		Tracing: &extensionTracing{Type: "X-Amzn-Trace-Id", Value: inv.traceID},
	}
}

// shutdown tells the extension that the environment is about to end, if it
// wants to know.
func (x *extension) shutdown(reason string, deadline time.Time) {
	if !x.ends {
		return
	}
	select {
	case x.events <- extensionEvent{EventType: "SHUTDOWN", DeadlineMS: deadline.UnixMilli(), Reason: reason}:
	default: // it has not even fetched the events before this one
	}
}

func (e *environment) handleRegister(w http.ResponseWriter, r *http.Request) {
	name := r.Header.Get("Lambda-Extension-Name")
	if name == "" {
		refuse(w, http.StatusBadRequest, "Extension.InvalidName", "Lambda-Extension-Name is missing")
		return
	}
	var body struct {
		Events []string `json:"events"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&body); err != nil {
		refuse(w, http.StatusBadRequest, "InvalidRequestFormat", err.Error())
		return
	}
	x := &extension{name: name, events: make(chan extensionEvent, 2)}
	for _, event := range body.Events {
		switch event {
		case "INVOKE":
			x.invokes = true
		case "SHUTDOWN":
			x.ends = true
		default:
			refuse(w, http.StatusBadRequest, "Extension.InvalidEventType", "Unknown event "+event)
			return
		}
	}
	id := rand.Text()
	s := e.svc
	s.mu.Lock()
	late := e.runtimeReady
	for _, other := range e.extensions {
		late = late || other.name == name
	}
	if !late {
		e.extensions[id] = x
	}
	s.mu.Unlock()
	if late {
		refuse(w, http.StatusForbidden, "Extension.RegistrationClosed", "Too late to register, or registered already")
		return
	}
	w.Header().Set("Lambda-Extension-Identifier", id)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"functionName": e.fn.Name, "functionVersion": "$LATEST", "handler": e.fn.Handler, "accountId": account,
	})
}

// handleNextEvent blocks until there is an event for the extension.
func (e *environment) handleNextEvent(w http.ResponseWriter, r *http.Request) {
	s := e.svc
	s.mu.Lock()
	x := e.extensions[r.Header.Get("Lambda-Extension-Identifier")]
	if x != nil {
		x.ready, x.busy = true, false
		e.checkReady()
		e.checkDone()
	}
	s.mu.Unlock()
	if x == nil {
		refuse(w, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "Unknown extension identifier")
		return
	}
	select {
	case event := <-x.events:
		w.Header().Set("Lambda-Extension-Event-Identifier", rand.Text())
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(event)
	case <-r.Context().Done():
	}
}

// handleExtensionError ends the environment, since an extension could not go on.
func (e *environment) handleExtensionError(w http.ResponseWriter, r *http.Request) {
	s := e.svc
	s.mu.Lock()
	x := e.extensions[r.Header.Get("Lambda-Extension-Identifier")]
	if x != nil && e.initErr == nil {
		e.initErr = &functionError{Type: "Extension.Crash", Message: "extension " + x.name + " failed: " + r.Header.Get("Lambda-Extension-Function-Error-Type")}
	}
	s.mu.Unlock()
	if x == nil {
		refuse(w, http.StatusForbidden, "Extension.UnknownExtensionIdentifier", "Unknown extension identifier")
		return
	}
	accept(w)
	e.kill()
}
