// A client for the chat server. It sends what you type to the server, and shows what the server
// sends.
//
//	go run ./client                 talk to 127.0.0.1:12345
//	go run ./client <host:port>     talk to another server
//
// Two goroutines copy, one in each direction, because both sides may speak at any time:
//
//	keyboard --> connection --> server
//	screen  <-- connection <-- server
//
// The client ends when the server closes the connection. Then its exit status is 0. If the client cannot
// connect, or the connection breaks, the exit status is 1.
//
// SHORTCUT: everybody can see the password while you type it, and a line that arrives while you type
// appears in the middle of your line. A real client controls the screen.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	log.SetFlags(0) // print errors without date and time
	address := "127.0.0.1:12345"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatalf("cannot connect; is the server running? (%v)", err)
	}
	go send(conn.(*net.TCPConn)) // ends with the input, or with the program
	_, err = io.Copy(os.Stdout, conn)
	if err != nil {
		log.Fatalf("the connection broke: %v", err)
	}
}

// send sends the input to the server. At the end of the input, it closes only the sending side of the
// connection. So the server knows that nothing more will come, but its answers to the last commands
// still arrive. If sending fails, the connection has ended, and main finds that out.
func send(conn *net.TCPConn) {
	io.Copy(conn, os.Stdin)
	conn.CloseWrite()
}
