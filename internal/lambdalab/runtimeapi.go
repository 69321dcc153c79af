package lambdalab

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"time"
)

// functionError is the payload of an invocation that failed.
type functionError struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`

	body     []byte // as the function wrote it; nil if it is the service's
	reported string // the type in the report, if it differs
}

// Error types of the service.
const (
	errorTimeout  = "Sandbox.Timedout"
	errorExit     = "Runtime.ExitError"
	errorTooLarge = "Function.ResponseSizeTooLarge"
)

// payload returns the response of a failed invocation.
func (f *functionError) payload(requestID string) []byte {
	if f.body != nil {
		return f.body
	}
	b, _ := json.Marshal(functionError{ // strings always marshal
		Type:    f.Type,
		Message: fmt.Sprintf("RequestId: %s Error: %s", requestID, f.Message),
	})
	return b
}

func (f *functionError) reportedType() string {
	if f.reported != "" {
		return f.reported
	}
	return f.Type
}

// parseError reads what a function reports as its error.
func parseError(header http.Header, body []byte) *functionError {
	f := &functionError{body: body}
	if json.Unmarshal(body, f) != nil || f.Type == "" {
		f.Type = header.Get("Lambda-Runtime-Function-Error-Type")
	}
	if f.Type == "" {
		f.Type = "Unhandled"
	}
	return f
}

// routes is what the process in the environment sees.
func (e *environment) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", e.handleNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", e.handleResponse)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", e.handleError)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", e.handleInitError)
	mux.HandleFunc("POST /2020-01-01/extension/register", e.handleRegister)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", e.handleNextEvent)
	mux.HandleFunc("POST /2020-01-01/extension/init/error", e.handleExtensionError)
	mux.HandleFunc("POST /2020-01-01/extension/exit/error", e.handleExtensionError)
	return mux
}

// handleNext blocks until there is an invocation.
func (e *environment) handleNext(w http.ResponseWriter, r *http.Request) {
	s := e.svc
	s.mu.Lock()
	if inv := e.current; inv != nil && inv.taken {
		if !inv.responded {
			s.mu.Unlock()
			refuse(w, http.StatusForbidden, "InvalidStateTransition", "The invocation has not been responded to")
			return
		}
		inv.runtimeDone = true
		e.checkDone()
	}
	if !e.runtimeReady {
		e.runtimeReady = true
		e.checkReady()
	}
	s.mu.Unlock()

	var inv *invocation
	select {
	case inv = <-e.work:
	case <-r.Context().Done():
		return
	}
	s.mu.Lock()
	inv.taken = true
	s.mu.Unlock()
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	h.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	h.Set("Lambda-Runtime-Invoked-Function-Arn", s.arn(e.fn.Name))
	h.Set("Lambda-Runtime-Trace-Id", inv.traceID)
	if inv.clientContext != "" {
		h.Set("Lambda-Runtime-Client-Context", inv.clientContext)
	}
	h.Set("Content-Length", strconv.Itoa(len(inv.payload)))
	_, _ = w.Write(inv.payload) // a runtime that is gone is noticed by its exit
}

// checkReady is called with the service's mutex held.
func (e *environment) checkReady() {
	if !e.runtimeReady || e.state != Starting {
		return
	}
	for _, x := range e.extensions {
		if !x.ready {
			return
		}
	}
	select {
	case <-e.ready:
	default:
		e.initDuration = time.Since(e.created)
		close(e.ready)
	}
}

// checkDone is called with the service's mutex held.
func (e *environment) checkDone() {
	inv := e.current
	if inv == nil || !inv.responded || !inv.runtimeDone {
		return
	}
	for _, x := range e.extensions {
		if x.busy {
			return
		}
	}
	inv.finish()
}

// handleResponse takes the response of an invocation.
func (e *environment) handleResponse(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		if e.respond(w, r, nil, &functionError{
			Type:    errorTooLarge,
			Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", maxResponse),
		}) {
			refuse(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "Exceeded maximum allowed payload size")
		}
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	var failure *functionError
	if kind := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); kind != "" {
		// The response broke off while the function made it.
		failure = &functionError{Type: kind}
		if text, err := base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body")); err == nil {
			failure.body = text
		}
	}
	if e.respond(w, r, body, failure) {
		accept(w)
	}
}

// handleError takes the error of an invocation.
func (e *environment) handleError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	if e.respond(w, r, nil, parseError(r.Header, body)) {
		accept(w)
	}
}

// respond notes the result of the current invocation. If it must not be
// given, the request is refused and the answer is false.
func (e *environment) respond(w http.ResponseWriter, r *http.Request, body []byte, failure *functionError) bool {
	s := e.svc
	s.mu.Lock()
	defer s.mu.Unlock()
	inv := e.current
	switch {
	case inv == nil || inv.id != r.PathValue("id"):
		refuse(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return false
	case inv.responded:
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "The invocation has been responded to already")
		return false
	}
	inv.responded, inv.response, inv.failure = true, body, failure
	return true
}

// handleInitError takes the error that kept the environment from initializing.
func (e *environment) handleInitError(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxResponse))
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	s := e.svc
	s.mu.Lock()
	late := e.runtimeReady
	if !late && e.initErr == nil {
		e.initErr = parseError(r.Header, body)
	}
	s.mu.Unlock()
	if late {
		refuse(w, http.StatusForbidden, "InvalidStateTransition", "The environment has initialized already")
		return
	}
	accept(w)
}

func accept(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"OK"}`+"\n")
}

func refuse(w http.ResponseWriter, status int, kind, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"errorType": kind, "errorMessage": message})
}

// discardLog keeps net/http from writing to the standard error: connections
// to processes that are killed break all the time.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
