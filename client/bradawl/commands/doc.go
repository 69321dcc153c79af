// Package commands is the command line of bradawl, apart from its main: token,
// listen, connect, ping and netcheck. Each takes the connection string from the
// environment or a file, never as an argument, where every user of the machine
// would see it.
package commands
