// Package price says what AWS charges: a table of figures, each with the day it
// was read and where it stands, and the rates that one choice of region,
// architecture, storage class and reading of the transfer charges comes to.
//
// The figures are data, in prices.json, and no constants in code. [Published]
// reads those that come with the package; a caller with better ones (another
// region, a negotiated price) gives a file of the same form to [Read].
//
// It imports nothing but the standard library, so that a function that decides
// by dollars stays small.
package price
