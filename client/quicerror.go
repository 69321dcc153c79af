package client

import (
	"context"
	"errors"

	"github.com/quic-go/quic-go"

	"github.com/bradawl/bradawl/protocol"
	"github.com/bradawl/bradawl/protocol/identity"
)

// TLS alerts (RFC 8446 section 6) with which crypto/tls answers a certificate that the other side will not have.
const (
	alertBadCertificate         = 42
	alertUnsupportedCertificate = 43
	alertCertificateUnknown     = 46
	alertUnknownCA              = 48
	alertCertificateRequired    = 116
)

// quicReason classifies the error of a handshake or the end of a connection.
func quicReason(err error) protocol.Reason {
	if _, ok := errors.AsType[*identity.PinError](err); ok {
		return protocol.ReasonIdentityMismatch
	}
	if t, ok := errors.AsType[*quic.TransportError](err); ok && t.ErrorCode.IsCryptoError() {
		switch t.ErrorCode & 0xff {
		case alertBadCertificate, alertUnsupportedCertificate, alertCertificateUnknown, alertUnknownCA, alertCertificateRequired:
			return protocol.ReasonIdentityMismatch
		}
		return protocol.ReasonQUICTimeout
	}
	if app, ok := errors.AsType[*quic.ApplicationError](err); ok {
		if app.ErrorCode == CodeProofFailed {
			return protocol.ReasonProofFailed
		}
		return protocol.ReasonCanceled
	}
	switch {
	case isIdle(err):
		return protocol.ReasonNoInbound
	case errors.Is(err, context.Canceled), errors.Is(err, quic.ErrTransportClosed):
		return protocol.ReasonCanceled
	}
	if _, ok := errors.AsType[*quic.StatelessResetError](err); ok {
		return protocol.ReasonNoPeer
	}
	return protocol.ReasonQUICTimeout
}

func isIdle(err error) bool {
	_, ok := errors.AsType[*quic.IdleTimeoutError](err)
	return ok
}

// endsConnection tells whether a stream's error is that of its whole connection, which is then over or will be at once.
func endsConnection(err error) bool {
	if isIdle(err) {
		return true
	}
	if _, ok := errors.AsType[*quic.ApplicationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*quic.TransportError](err); ok {
		return true
	}
	_, ok := errors.AsType[*quic.StatelessResetError](err)
	return ok
}

func isRemoteClose(err error) bool {
	app, ok := errors.AsType[*quic.ApplicationError](err)
	return ok && app.Remote
}

func isRemoteCode(err error, code quic.ApplicationErrorCode) bool {
	app, ok := errors.AsType[*quic.ApplicationError](err)
	return ok && app.Remote && app.ErrorCode == code
}

// closedRegularly tells whether err is that of a connection that the other side has ended without complaint.
func closedRegularly(err error) bool {
	app, ok := errors.AsType[*quic.ApplicationError](err)
	return ok && app.Remote && app.ErrorCode == CodeClosed
}
