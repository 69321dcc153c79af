package exchange

// Network makes the links. Get one with [Over].
type Network interface {
	network()
}
