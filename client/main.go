// A client for the chat server: what is typed goes to the server, what the server sends is shown.
//
//	go run ./client                    talk to 127.0.0.1:12345
//	go run ./client <host:port>        talk to another server
//	printf 'alice\npassword123\n/users\n/quit\n' | go run ./client
//
// Two goroutines copy, one in each direction, because either side may have something to say at
// any time:
//
//	keyboard --> send --> connection --> show --> screen
//
// It is over when the server closes the connection. The exit status is 0 then, 1 if the server
// could not be reached, the login failed or the connection broke, and 2 if the command line is
// wrong. (go run has an exit status of its own.)
//
// Of the protocol it knows how a login ends, and nothing else: a server that learns a new command
// needs no new client. It ends each message with a newline, because the terminal sends whole
// lines.
//
// SHORTCUT: the password can be seen while it is typed, and a line that arrives meanwhile is
// shown in the middle of what is being typed. A real client takes the terminal out of its line
// mode.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

// main connects, starts the copying from the keyboard, and copies to the screen until it is over.
// That decides, not the end of the input: who pipes commands in wants to see the answers.
func main() {
	args := append(os.Args, "127.0.0.1:12345") // without an argument, args[1] is this
	if _, _, err := net.SplitHostPort(args[1]); err != nil || len(os.Args) > 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./client [host:port]")
		os.Exit(2)
	}
	conn, err := net.Dial("tcp", args[1])
	if err != nil {
		fail("cannot connect (is the server running?):", err)
	}
	go send(conn.(*net.TCPConn)) // ends with the input, or with the program
	login, err := show(conn)
	switch {
	case err != nil:
		fail("the connection broke:", err)
	case strings.Contains(login, "Welcome to the chat server!"):
	case strings.Contains(login, "Authentication failed"):
		os.Exit(1) // the server has said why
	default:
		fail("the server closed the connection before the login was done")
	}
}

// send copies standard input to the server. At its end only the sending side is closed: the
// server sees that no more commands will come, and its answers to the last of them still arrive.
// An error in writing is not reported here: the connection is gone, and show sees that too. One
// in reading is the end of the input.
func send(conn *net.TCPConn) {
	io.Copy(conn, os.Stdin)
	conn.CloseWrite()
}

// show copies what the server sends to standard output, prompts without a newline too, and
// returns when the server has closed the connection. login is all that came until the welcome was
// complete; how the login went is in it. It is collected because one read may bring only part of
// a line.
func show(conn net.Conn) (login string, err error) {
	piece := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = conn.Read(piece)
		os.Stdout.Write(piece[:n])
		if !strings.Contains(login, "Welcome to the chat server!") {
			login += string(piece[:n])
		}
	}
	if err == io.EOF {
		err = nil
	}
	return login, err
}

// fail ends the program with a line on standard error, apart from what the server said, and
// status 1.
func fail(why ...any) {
	fmt.Fprintln(os.Stderr, why...)
	os.Exit(1)
}
