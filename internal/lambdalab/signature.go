package lambdalab

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// maxClockSkew is how old or early a signature may be.
const maxClockSkew = 5 * time.Minute

// verify checks a request's signature (Signature Version 4) by signing the
// signed part of it again. Without the check, everybody on this host could
// have functions run.
func (s *Service) verify(r *http.Request, body []byte) *apiError {
	denied := func(kind, message string) *apiError {
		return &apiError{status: http.StatusForbidden, kind: kind, message: message}
	}
	got := r.Header.Get("Authorization")
	if got == "" {
		return denied("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	date, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return denied("IncompleteSignatureException", "X-Amz-Date is missing or malformed")
	}
	if skew := time.Since(date); skew > maxClockSkew || skew < -maxClockSkew {
		return denied("InvalidSignatureException", "Signature expired or not yet current")
	}
	again := &http.Request{
		Method: r.Method, Host: r.Host, ContentLength: int64(len(body)), Header: make(http.Header),
		URL: &url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	_, signed, _ := strings.Cut(got, "SignedHeaders=")
	signed, _, _ = strings.Cut(signed, ",")
	for name := range strings.SplitSeq(signed, ";") {
		if values := r.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), s.creds, again, hex.EncodeToString(sum[:]), "lambda", s.cfg.Region, date); err != nil {
		return denied("InvalidSignatureException", "The signature cannot be checked")
	}
	want := again.Header.Get("Authorization")
	if subtle.ConstantTimeCompare([]byte(got), []byte(want)) != 1 {
		return denied("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return nil
}
