// A client for the chat server. It sends what you type to the server, and shows what the server
// sends.
//
//	go run ./client                    talk to 127.0.0.1:12345
//	go run ./client <host:port>        talk to another server
//	printf 'alice\npassword123\n/users\n/quit\n' | go run ./client
//
// Two goroutines copy, one in each direction, because either side may have something to say at any
// time:
//
//	keyboard --> send --> connection --> show --> screen
//
// The client ends when the server closes the connection. Its exit status is 0 after a goodbye, and
// 1 if the server could not be reached, or the login failed. It is also 1 if, before the input
// ended, the connection ended without a goodbye. It is 2 if the command line was wrong. (go run has
// an exit status of its own.)
//
// The client knows four sentences of the server: the welcome, the refusal, and two goodbyes. It
// knows none of the commands, so a server that learns a new command needs no new client.
//
// SHORTCUT: the password can be seen while it is typed, and a line that arrives while you type
// appears in the middle of yours. A real client turns off the terminal's echo, and draws the line
// itself.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
)

// main connects, starts send, and shows what the server says until the connection ends. The end of
// the input does not end the client: a user who pipes commands into it wants to see the answers.
func main() {
	log.SetFlags(0) // log.Fatalln prints the bare message on standard error, and ends with status 1
	address := "127.0.0.1:12345"
	if len(os.Args) == 2 {
		address = os.Args[1]
	}
	_, _, err := net.SplitHostPort(address)
	if err != nil || len(os.Args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./client [host:port]")
		os.Exit(2)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatalln("cannot connect (is the server running?):", err)
	}
	inputEnded := make(chan struct{})
	go send(conn.(*net.TCPConn), inputEnded) // ends with the input, or with the program
	welcomed, tail, err := show(conn)
	switch {
	case err != io.EOF:
		log.Fatalln("the connection broke:", err)
	case !welcomed && strings.Contains(tail, "Authentication failed"):
		os.Exit(1) // the server has said why
	case !welcomed:
		log.Fatalln("the server closed the connection before the login was done")
	case strings.HasSuffix(tail, "\nGoodbye!\n"), strings.HasSuffix(tail, "\nServer is shutting down.\n"):
		return
	}
	select {
	case <-inputEnded: // we have ended the conversation, so the server need not say goodbye
	default:
		log.Fatalln("the server closed the connection without a goodbye")
	}
}

// send copies the keyboard to the server, until the input ends. Then it closes only the sending
// side of the connection: the answers to the last commands can still arrive. An error in writing is
// not reported here, because show notices it too.
func send(conn *net.TCPConn, inputEnded chan struct{}) {
	io.Copy(conn, os.Stdin)
	close(inputEnded)
	conn.CloseWrite()
}

// show prints what the server sends, and returns when the connection ends. The error is io.EOF if
// the server has closed the connection in an orderly way. show also returns whether the server has
// said welcome, and the last words that it said. One read may bring only part of a line, so show
// looks for the welcome in several reads.
func show(conn net.Conn) (welcomed bool, tail string, err error) {
	piece := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = conn.Read(piece)
		os.Stdout.Write(piece[:n])
		tail += string(piece[:n])
		welcomed = welcomed || strings.Contains(tail, "Welcome to the chat server!\n")
		tail = tail[max(0, len(tail)-200):] // long enough for each sentence that matters
	}
	return welcomed, tail, err
}
