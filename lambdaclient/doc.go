// Package lambdaclient gives an AWS Lambda function a place among bradawl's
// peers. [Start] wraps a handler, as aws-lambda-go's lambda.Start does, and hands
// it a [Session]: with it the function signs in to a rendezvous, connects to
// other functions and is connected to.
//
// A function lives from invocation to invocation. In between, the environment is
// frozen: no packet is answered and no timer fires, so links to peers and the
// server may be gone when it thaws. The session therefore keeps its sign-in
// across invocations, and checks and renews it at the first use after a thaw.
// Whatever must survive has to be done before the handler returns. The context
// that the handler gets ends a margin before Lambda's deadline, so that there is
// time left to save work and to answer.
package lambdaclient
