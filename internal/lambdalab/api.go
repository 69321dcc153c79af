package lambdalab

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// apiError is an error of the Invoke API as the real service gives it.
type apiError struct {
	status  int
	kind    string
	message string
	reason  string // of TooManyRequestsException
}

func errThrottled(reason string) *apiError {
	return &apiError{status: http.StatusTooManyRequests, kind: "TooManyRequestsException", message: "Rate Exceeded.", reason: reason}
}

func errServiceClosed() *apiError {
	return &apiError{status: http.StatusInternalServerError, kind: "ServiceException", message: "The service is closing."}
}

func (a *apiError) write(w http.ResponseWriter) {
	body := map[string]string{"Type": "User", "Message": a.message, "message": a.message}
	if a.status >= http.StatusInternalServerError {
		body["Type"] = "Server"
	}
	if a.reason != "" {
		body["Reason"] = a.reason
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("X-Amzn-ErrorType", a.kind)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_ = json.NewEncoder(w).Encode(body)
}

// routes is what clients see.
func (s *Service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", s.signed(s.handleInvoke))
	mux.HandleFunc("GET /2015-03-31/functions/{name}", s.signed(s.handleGetFunction))
	mux.HandleFunc("GET /2015-03-31/functions/{name}/configuration", s.signed(s.handleGetConfiguration))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		(&apiError{status: http.StatusNotFound, kind: "UnknownOperationException", message: "The lab does not have this operation."}).write(w)
	})
	return mux
}

// handler is a handler that has the whole body of its request.
type handler func(w http.ResponseWriter, r *http.Request, body []byte) *apiError

// signed reads the request's body and checks its signature.
func (s *Service) signed(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := newUUID()
		w.Header().Set("X-Amzn-Requestid", id)
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxSyncPayload))
		if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
			errTooLarge(maxSyncPayload).write(w)
			return
		}
		if err != nil {
			return // the client is gone
		}
		if refusal := s.verify(r, body); refusal != nil {
			refusal.write(w)
			return
		}
		if refusal := h(w, r, body); refusal != nil {
			refusal.write(w)
		}
	}
}

func errTooLarge(limit int) *apiError {
	return &apiError{
		status: http.StatusRequestEntityTooLarge, kind: "RequestTooLargeException",
		message: fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", limit),
	}
}

// find returns the function that a request names: by its name, its ARN, or a
// part of that, with or without a qualifier, of which $LATEST is the only one.
func (s *Service) find(r *http.Request) (*function, *apiError) {
	name, qualifier := r.PathValue("name"), r.URL.Query().Get("Qualifier")
	if _, rest, ok := strings.Cut(name, "function:"); ok {
		name = rest
	}
	if bare, q, ok := strings.Cut(name, ":"); ok {
		name, qualifier = bare, q
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fn := s.functions[name]
	if fn == nil || qualifier != "" && qualifier != "$LATEST" {
		arn := s.arn(name)
		if qualifier != "" {
			arn += ":" + qualifier
		}
		return nil, &apiError{status: http.StatusNotFound, kind: "ResourceNotFoundException", message: "Function not found: " + arn}
	}
	return fn, nil
}

func (s *Service) handleInvoke(w http.ResponseWriter, r *http.Request, payload []byte) *apiError {
	fn, refusal := s.find(r)
	if refusal != nil {
		return refusal
	}
	if len(payload) == 0 {
		payload = []byte("{}")
	}
	if !json.Valid(payload) {
		return &apiError{status: http.StatusBadRequest, kind: "InvalidRequestContentException", message: "Could not parse request body into json"}
	}
	inv := newInvocation(fn, payload)
	inv.id = w.Header().Get("X-Amzn-Requestid")
	if encoded := r.Header.Get("X-Amz-Client-Context"); encoded != "" {
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !json.Valid(decoded) {
			return &apiError{status: http.StatusBadRequest, kind: "InvalidRequestContentException", message: "Client context must be a valid Base64-encoded JSON object."}
		}
		inv.clientContext = string(decoded)
	}
	switch kind := r.Header.Get("X-Amz-Invocation-Type"); kind {
	case "DryRun":
		w.WriteHeader(http.StatusNoContent)
		return nil
	case "Event":
		if len(payload) > maxAsyncPayload {
			return errTooLarge(maxAsyncPayload)
		}
		if refusal := s.enqueue(inv); refusal != nil {
			return refusal
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	case "", "RequestResponse":
		return s.invokeAndRespond(w, r, inv)
	default:
		return &apiError{status: http.StatusBadRequest, kind: "InvalidParameterValueException", message: "Unknown invocation type " + kind}
	}
}

// invokeAndRespond runs an invocation to its end even if the client leaves,
// as Lambda does.
func (s *Service) invokeAndRespond(w http.ResponseWriter, r *http.Request, inv *invocation) *apiError {
	if refusal := s.takeSlot(inv.fn); refusal != nil {
		return refusal
	}
	result := make(chan outcome, 1)
	go func() {
		defer s.wg.Done()
		result <- s.execute(inv)
	}()
	var out outcome
	select {
	case out = <-result:
	case <-r.Context().Done():
		return nil
	}
	if out.refusal != nil {
		return out.refusal
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Amz-Executed-Version", "$LATEST")
	h.Set("X-Amzn-Trace-Id", inv.traceID)
	if out.failure != nil {
		h.Set("X-Amz-Function-Error", "Unhandled") // also for errors that the function returned
	}
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		h.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(s.logTail(inv.id)))
	}
	_, _ = w.Write(out.response) // the client may be gone
	return nil
}

// configuration is FunctionConfiguration, as far as it means anything here.
type configuration struct {
	FunctionName string
	FunctionArn  string
	Version      string
	Handler      string
	Runtime      string
	PackageType  string
	State        string
	LastModified string
	Timeout      int
	MemorySize   int
}

func (s *Service) configuration(fn *function) configuration {
	return configuration{
		FunctionName: fn.Name, FunctionArn: s.arn(fn.Name), Version: "$LATEST", Handler: fn.Handler,
		Runtime: "provided.al2023", PackageType: "Zip", State: "Active",
		LastModified: "1970-01-01T00:00:00.000+0000",
		Timeout:      int(fn.Timeout / time.Second), MemorySize: fn.MemoryMB,
	}
}

func (s *Service) handleGetConfiguration(w http.ResponseWriter, r *http.Request, _ []byte) *apiError {
	fn, refusal := s.find(r)
	if refusal != nil {
		return refusal
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.configuration(fn))
	return nil
}

func (s *Service) handleGetFunction(w http.ResponseWriter, r *http.Request, _ []byte) *apiError {
	fn, refusal := s.find(r)
	if refusal != nil {
		return refusal
	}
	answer := struct {
		Configuration configuration
		Concurrency   map[string]int `json:",omitempty"`
	}{Configuration: s.configuration(fn)}
	if fn.Concurrency > 0 {
		answer.Concurrency = map[string]int{"ReservedConcurrentExecutions": fn.Concurrency}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
	return nil
}
