// Package token makes and checks the tokens with which peers sign in: JWTs (RFC
// 7519) signed with EdDSA (RFC 8037), scoped to a group and a name pattern. The
// server needs only the public key.
//
// Claims on the wire: iss is "bradawl", grp the pattern of groups, sub the
// pattern of names (both as path.Match), exp and iat as RFC 7519 has them, jti
// an id for logs. The header's kid is the first 16 characters of the public
// key's base64url SHA-256.
package token
