// Package probe is a Lambda function that says how the network around it treats
// UDP: what AWS does not document. It runs bradawl's own discovery from inside
// an invocation and returns JSON. Invoked again in the same environment it also
// tells whether the public address and the NAT's mapping survived the freeze.
//
// Package bootstrap below it is the program to deploy. It needs a rendezvous,
// best one with a second address (--stun-other), and its connection string in
// the variable BRADAWL_URL.
package probe
