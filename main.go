// A chat server over TCP in one file. It solves an assignment of a university course on computer
// networks: users log in with a password. Then they write to one user, to a group, or to everybody.
//
//	go run .                   serve the users of users.txt on 127.0.0.1:12345
//	go run . <host:port>       serve on another address; ":12345" lets other machines connect
//	go run ./client            start a client, in another terminal
//
// After the login, a user can type:
//
//	/msg <username> <message>          /users                /help
//	/broadcast <message>               /groups_users         /quit or /exit
//	/create_group <group>              /join_group <group>
//	/group_msg <group> <message>       /leave_group <group>
//
// Two goroutines serve each client. The session reads the client's commands and carries them out.
// The writer takes lines from the client's queue and writes them to the client's socket. Any
// session can put lines into any queue. That is how messages travel between clients:
//
//	alice's socket --> session(alice) --+--> queue(alice) --> writer(alice) --> alice's socket
//	                                     \ /
//	                                      X
//	                                     / \
//	bob's socket ----> session(bob) ----+--> queue(bob) ----> writer(bob) ----> bob's socket
//
// Four rules make sure that these goroutines do not disturb each other:
//
//	R1  A goroutine must hold the lock, server.mu, to use the fields that stand below mu in the
//	    struct. While it holds the lock, it uses no socket, channel or log: those may block.
//	R2  Only the session of a connection reads from it. During the login only the session writes
//	    to it, and after the login only the writer.
//	R3  Nobody closes a queue, because in Go a send on a closed channel crashes the program.
//	    Instead, endAfter asks a writer to end. When a writer ends, it closes the channel done.
//	R4  Only a client's own session takes it out of the chat. Others make the session's read fail:
//	    drop closes the connection, and stop sets a deadline. Then the session leaves the chat.
package main

import (
	"bufio"
	"log"
	"net"
	"sync"

	"os"        // the users file, the log file, the command line
	"os/signal" // stopping properly at Ctrl-C
	"slices"    // sorting lists
	"strconv"   // numbers in replies; which characters can be printed
	"strings"   // taking messages apart
	"syscall"   // the signals besides Ctrl-C
	"time"      // deadlines: a read or a write fails if it is not done by then
)

// A server holds the data that all sessions share. It is a struct and not a set of global
// variables, so a test can run many servers at the same time.
type server struct {
	// These fields are set before the first connection and never change. So every goroutine may
	// read them without the lock. The durations are fields and not constants, so that tests can use
	// shorter ones.
	passwords     map[string]string // by user name
	log           *log.Logger
	commands      []command
	loginTimeout  time.Duration // the limit for a login; without it, a silent stranger could stay
	slowTimeout   time.Duration // the limit for each wait at a full queue, for each write, and for hanging up
	refusalDelay  time.Duration // the shortest time from the start of a login to its refusal
	passwordPause time.Duration // how long readLogin waits for the rest of a password

	sessions sync.WaitGroup // counts the sessions of clients who have logged in; main waits for them

	mu       sync.RWMutex       // the lock (R1): many may hold it to read, or one to change the data
	online   clients            // everybody in the chat
	groups   map[string]clients // the members of each group; a group without members is deleted
	taken    map[string]bool    // names of users online or just leaving; another login is refused
	stopping bool               // true after stop: nobody can enter the chat
}

// There is a client value for each user who has logged in. Its fields never change. Any goroutine
// may close conn, set its deadline, and use the channels: they have locks inside.
type client struct {
	name     string
	conn     *net.TCPConn
	queue    chan string   // a buffered channel of lines for the writer; each ends with a newline
	lastLine chan string   // for the last line to the client; the writer ends after it; see endAfter
	done     chan struct{} // closed when the writer ends; after that, nobody empties the queue
}

// A clients map finds a client by its name.
type clients map[string]*client

// A command is a row of the table in newServer.
type command struct {
	word string // "/msg"
	name string // how help shows the first argument: "<username>"; empty if there is none
	text string // how help shows the rest of the line: "<message>"; empty if there is none
	help string
	ends bool // the session ends after this command
	run  func(c *client, name, text string) (reply string)
}

// newServer returns a server that is ready to serve. To add a command, add a row to this table, a
// function to the section "Commands", and a line to the top of this file.
func newServer(passwords map[string]string, logger *log.Logger) *server {
	s := &server{
		passwords: passwords, log: logger,
		loginTimeout: 30 * time.Second, slowTimeout: 5 * time.Second,
		refusalDelay: time.Second, passwordPause: time.Second,
		online: clients{}, groups: map[string]clients{}, taken: map[string]bool{},
	}
	s.commands = []command{
		{word: "/msg", name: "<username>", text: "<message>", help: "write to one user", run: s.msg},
		{word: "/broadcast", text: "<message>", help: "write to all who are online", run: s.broadcast},
		{word: "/create_group", name: "<group>", help: "start a group, with you in it", run: s.createGroup},
		{word: "/join_group", name: "<group>", help: "become a member", run: s.joinGroup},
		{word: "/leave_group", name: "<group>", help: "leave it; it ends with its last member", run: s.leaveGroup},
		{word: "/group_msg", name: "<group>", text: "<message>", help: "write to the other members", run: s.groupMsg},
		{word: "/users", help: "who is online", run: s.listUsers},
		{word: "/groups_users", help: "all groups and who is in them", run: s.listGroups},
		{word: "/help", help: "this list", run: s.help},
		{word: "/quit", help: "leave the chat", run: s.quit, ends: true},
		{word: "/exit", help: "the same", run: s.quit, ends: true},
	}
	return s
}

// ---- Starting and stopping ----------------------------------------------------------------------
//
// An error at the start prints one line and ends the program, because somebody is watching the
// terminal. A later error is logged or ignored, and the server goes on.
//
// A comment at each go statement says when its goroutine ends. A goroutine that nobody needs any
// more, but that never ends, is called a leak: it keeps its memory for ever.
//
// SHORTCUT marks a place where a real server would do more.

// stopTimeout is the longest time that main waits for the sessions after a signal.
const stopTimeout = 2 * time.Second

// main runs the server until a signal comes: SIGINT (Ctrl-C), SIGTERM, or SIGHUP (the terminal was
// closed). The exit status is 0 after a signal, 1 if the server could not start, and 2 if the
// command line was wrong. (If you start the server with go run, you see the exit status of go run.)
func main() {
	address := "127.0.0.1:12345" // the port of the assignment, for clients on this machine
	if len(os.Args) == 2 {
		address = os.Args[1]
	}
	_, port, err := net.SplitHostPort(address)
	wellFormed := err == nil && port != ""
	if len(os.Args) > 2 || !wellFormed {
		os.Stderr.WriteString("usage: go run . [host:port]\n")
		os.Exit(2)
	}
	// With "go run . 2>&1 | head", the log goes into a pipe. After head has ended, the next log
	// line causes the signal SIGPIPE. It would end the server, so ignore it.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	s := newServer(loadUsers("users.txt"), newLogger())
	listener, err := net.Listen("tcp", address) // SHORTCUT: a real server encrypts, with crypto/tls
	if err != nil {
		s.log.Fatalf("ERROR cannot start: %v", err)
	}
	go s.serve(listener) // ends when stop closes the listener

	received := <-signals
	// Start the timer first: Wait may take too long, and the log line blocks while the terminal is
	// paused (Ctrl-S).
	time.AfterFunc(stopTimeout, func() { os.Exit(0) })
	s.stop(listener)
	s.log.Printf("INFO stopping: %v", received)
	s.sessions.Wait()
}

// loadUsers reads a file of lines username:password, and returns a map from user names to
// passwords. A password may contain colons and spaces. If the file cannot be read or has a bad
// line, loadUsers ends the program. Otherwise the mistake would stay hidden until a user could not
// log in.
//
// SHORTCUT: the passwords are stored as they are, because the assignment asks for it. A real server
// stores a hash of each. Computing it is slow, so a thief of the file cannot try many passwords.
func loadUsers(path string) map[string]string {
	data, err := os.ReadFile(path)
	if err != nil {
		log.Fatalf("ERROR cannot load the users: %v", err)
	}
	text := strings.TrimPrefix(string(data), "\ufeff") // the byte order mark that some editors write
	passwords := map[string]string{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSuffix(line, "\r")
		name, password, _ := strings.Cut(line, ":")
		_, duplicate := passwords[name]
		switch {
		case strings.TrimSpace(line) == "": // skip it
		case !validName(name), strings.TrimSpace(password) == "", duplicate:
			log.Fatalf("ERROR %s:%d: want username:password; each name once, and no spaces or brackets in a name", path, i+1)
		default:
			passwords[name] = password
		}
	}
	return passwords
}

// newLogger returns the server's logger. The log file is named after the day of the start. Only its
// owner may read it, because it has user names and addresses. (It never has passwords or messages.)
// An error ends the program.
func newLogger() *log.Logger {
	os.Mkdir("logs", 0o700) // usually it exists already; if it cannot be made, OpenFile fails
	path := "logs/" + time.Now().Format(time.DateOnly) + ".log"
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		log.Fatalf("ERROR cannot open the log file: %v", err)
	}
	return log.New(consoleAndFile{file}, "", log.LstdFlags)
}

// consoleAndFile writes each line of the log to the console (standard error) and to the file.
type consoleAndFile struct{ file *os.File }

// Write ignores errors. If the disk is full or the console is gone, the other one still gets the
// line.
func (w consoleAndFile) Write(line []byte) (int, error) {
	w.file.Write(line)
	os.Stderr.Write(line)
	return len(line), nil
}

// serve logs its address, and starts a session for each connection. It blocks in Accept, and ends
// when stop closes the listener. Accept can also fail, usually because the process has no free file
// descriptor. Each connection and each open file needs one. Descriptors become free when clients
// leave, so serve tries again after a second. Without the pause, the log would fill the disk.
func (s *server) serve(listener net.Listener) {
	s.log.Printf("INFO serving %d users on %v", len(s.passwords), listener.Addr())
	for {
		conn, err := listener.Accept()
		if err == nil {
			go s.handle(conn.(*net.TCPConn)) // ends soon after the connection has ended
			continue
		}
		s.mu.RLock()
		stopping := s.stopping
		s.mu.RUnlock()
		if stopping {
			return
		}
		s.log.Printf("ERROR cannot accept, trying again in a second: %v", err)
		time.Sleep(time.Second)
	}
}

// stop refuses new clients, also those who are logging in. It sends a last line to everybody in the
// chat and ends their sessions. It holds the lock for a moment and never waits for a client.
func (s *server) stop(listener net.Listener) {
	s.mu.Lock()
	s.stopping = true
	online := s.online.all()
	s.mu.Unlock()
	listener.Close()
	for _, c := range online {
		// The deadline makes the session's read fail (R4). Then leave calls endAfter, too. Only the
		// first call has an effect, so it must be this one.
		c.endAfter("Server is shutting down.\n")
		c.conn.SetReadDeadline(time.Now())
	}
}

// ---- The life of a connection -------------------------------------------------------------------
//
// The session stays with a connection from beginning to end. Its steps are: log in, enter the chat,
// carry out commands, leave the chat, hang up.
//
// The commands can end for several reasons: the client quits or closes its connection, it does not
// read, the connection breaks, or the server stops. In each case the next step is to leave the
// chat. So the code that cleans up exists only once.

// sendBuffer is the size, in bytes, of a buffer of the operating system. It keeps what is on its
// way to a client. (Linux doubles the size.) When it is full, Linux lets the next write wait until
// about a third of it is free. If a write takes longer than slowTimeout, the client is dropped.
// Without a fixed size the buffer can grow to several megabytes. A slow client could need too long
// for a third of that. It would be dropped although it is reading.
const sendBuffer = 64 << 10

// handle is the session of one connection.
func (s *server) handle(conn *net.TCPConn) {
	conn.SetWriteBuffer(sendBuffer)
	in := &messageReader{input: bufio.NewReaderSize(conn, maxRead), commands: s.commands}
	c := s.login(conn, in)
	if c != nil {
		defer s.sessions.Done() // runs after hangUp; enter has called Add
		lastLine := s.chat(c, in)
		s.leave(c, lastLine)
	}
	s.hangUp(conn, in)
}

// login asks for a user name and a password, and waits for them until loginTimeout is over. If they
// are right and the user can enter the chat, login returns the client. Otherwise login sends a
// refusal and returns nil. If the connection ends before anything was typed, login returns nil and
// logs nothing.
//
// A wrong name and a wrong password get the same answer. Otherwise a stranger could find out which
// names exist. The answer comes at least refusalDelay after the login has started. An unknown name
// is not logged, because it may be a password that was typed at the wrong prompt.
//
// SHORTCUT: a stranger can guess on many connections at the same time. A real server counts the
// failures of each address.
func (s *server) login(conn *net.TCPConn, in *messageReader) *client {
	started := time.Now()
	deadline := started.Add(s.loginTimeout)
	name, password, err := s.readLogin(conn, in, deadline)
	late := time.Now().After(deadline)
	if err != nil && !late {
		return nil // the connection has ended
	}
	// Clear the deadline that readLogin has set. Do it before enter is called. From then on, stop
	// may set a deadline, and this line must not delete it.
	conn.SetReadDeadline(time.Time{})

	reason := "" // stays empty if the name or the password is wrong
	switch {
	case late:
		reason = ": no login within " + strconv.Itoa(int(s.loginTimeout.Seconds())) + " seconds"
	case s.matches(name, password):
		c, problem := s.enter(name, conn)
		if problem == "" {
			return c
		}
		reason = ": " + problem
	}
	_, known := s.passwords[name]
	if !known {
		name = "an unknown user"
	}
	s.log.Printf("WARN login of %s from %v failed%s", name, conn.RemoteAddr(), reason)
	time.Sleep(time.Until(started.Add(s.refusalDelay))) // this slows guessing
	conn.Write([]byte("Authentication failed" + reason + ".\n"))
	return nil
}

// matches reports whether this is the password of this user.
func (s *server) matches(name, password string) bool {
	want, known := s.passwords[name]
	return known && password == want
}

// enter lets a user into the chat, tells the others, and returns the client. If the user cannot
// enter, problem says why; otherwise it is empty. enter may block in send.
//
// The welcome goes into the queue first, when no other session can find the client yet. So no line
// can come before it. The writer starts after that, when all sessions can find the client. So a
// user who sees the welcome can already receive messages.
func (s *server) enter(name string, conn *net.TCPConn) (c *client, problem string) {
	c = &client{
		name: name, conn: conn, queue: make(chan string, queueLength),
		lastLine: make(chan string, 1), done: make(chan struct{}),
	}
	c.queue <- "Welcome to the chat server!\n"

	s.mu.Lock()
	others := s.online.all()
	switch {
	case s.stopping:
		problem = "the server is shutting down"
	case s.taken[name]:
		problem = "this user is logged in already"
	default:
		s.taken[name] = true
		s.online[name] = c
		s.sessions.Add(1)
	}
	s.mu.Unlock()
	if problem != "" {
		return nil, problem
	}
	go s.write(c) // ends after endAfter, or when writing fails
	s.log.Printf("INFO %s logged in from %v", name, conn.RemoteAddr())
	s.send(name+" has joined the chat.\n", others...)
	return c, ""
}

// chat carries out commands until the client quits or reading fails. It returns the last line for
// the client. It blocks while it waits for a message, and while it or a command waits in send.
//
// Each line of a reply is put into the queue alone. So a full queue holds 256 lines, and not 256
// long replies.
//
// A message may come together with an error, if the client has closed the connection after the
// message. So chat carries out the message first. (An empty message does nothing.) It does not
// matter which error it is, because no more messages can come.
func (s *server) chat(c *client, in *messageReader) (lastLine string) {
	for {
		message, err := in.next()
		reply, ends := s.execute(c, message)
		if ends {
			return reply + "\n"
		}
		if reply != "" {
			for _, line := range strings.Split(reply, "\n") {
				s.send(line+"\n", c)
			}
		}
		if err != nil {
			return ""
		}
	}
}

// leave takes a client out of the chat and out of all groups, and tells the others. It may block in
// send, and it waits until the client's writer has ended.
//
// The name stays taken until the others have been told. If it became free earlier, this could
// happen:
//
//  1. Alice's old session wants to send "alice has left the chat".
//  2. Alice logs in again. Her new session sends "alice has joined the chat" to bob.
//  3. The old session sends its line to bob. Now bob believes that alice is offline.
func (s *server) leave(c *client, lastLine string) {
	s.mu.Lock()
	delete(s.online, c.name)
	for group := range s.groups { // Go allows deleting from a map in a loop over it
		s.removeMember(c, group)
	}
	others := s.online.all()
	if s.stopping {
		others = nil // everybody leaves now, and nobody needs to be told
	}
	s.mu.Unlock()

	c.endAfter(lastLine) // before send, which may wait for slow clients
	s.log.Printf("INFO %s logged out from %v", c.name, c.conn.RemoteAddr())
	s.send(c.name+" has left the chat.\n", others...)
	s.mu.Lock()
	delete(s.taken, c.name)
	s.mu.Unlock()
	<-c.done // the writer must end before hangUp closes the connection
}

// hangUp closes a connection without losing the last lines. Suppose the server closed the socket
// before it has read all that the client sent. TCP would reset the connection, which ends it
// immediately. Lines on their way to the client could be lost. So hangUp first closes only the
// sending direction. This is called a half-close: the client can read all lines, and then sees the
// end. Then hangUp sets a new deadline, and discards what the client still sends. It ends when the
// client closes its side, too, or after slowTimeout.
func (s *server) hangUp(conn *net.TCPConn, in *messageReader) {
	conn.CloseWrite()
	conn.SetReadDeadline(time.Now().Add(s.slowTimeout))
	var err error
	for err == nil {
		_, err = in.next()
	}
	conn.Close()
}

// ---- From bytes to messages ---------------------------------------------------------------------
//
// TCP carries a stream of bytes and knows nothing of messages. Alice sends "/msg bob hi" and then
// "/msg bob bye". One read of the server may bring both messages, or one and a half. Finding out
// where a message ends is called framing. The server accepts two kinds of clients:
//
//	line clients   end each message with a newline. The newline is the delimiter: it ends a
//	               message, no matter how TCP cuts the bytes. The client in this folder is a line
//	               client, and so are the tools nc and telnet.
//	raw clients    send no delimiter. The client of the course is a raw client. The server assumes
//	               that the bytes of one read are one message. If another command begins in them,
//	               the server cuts there.
//
// The server treats every client as a raw client until its first newline, and as a line client from
// then on. The last section of this file has readLogin, and the code for raw clients.

// maxMessage is the longest message, in bytes without its line end. The assignment sets it.
const maxMessage = 1024

// maxRead is the size, in bytes, of a connection's input buffer, and so the limit of one read. A
// terminal accepts lines of at most 4096 bytes, so a line that was typed into a raw client fits.
const maxRead = 4096

// A messageReader turns the bytes of one connection into messages. Only the session uses it (R2).
// The field input is a buffer: it keeps bytes that were read but not used yet. Peek returns bytes
// of the buffer and leaves them there, and Discard removes them.
type messageReader struct {
	input    *bufio.Reader
	lines    bool      // this is a line client
	commands []command // for finding where a command of a raw client begins
}

// next blocks until a message comes, and returns it. From a line client this is one line, without
// the newline. From a raw client it is the first command of the bytes in the buffer. The error
// comes from reading the connection. A line client may close its connection after a line that has
// no newline. In this case the line is returned together with io.EOF, the normal end of a
// connection.
func (m *messageReader) next() (string, error) {
	if m.lines {
		return m.nextLine()
	}
	text, err := m.peek(1)
	if strings.Contains(text, "\n") {
		m.lines = true
		return m.nextLine()
	}
	message := m.firstCommand(text)
	m.input.Discard(len(message))
	return message, err
}

// peek blocks until the buffer holds n bytes, and returns all that it holds. The error comes from
// reading the connection, or it says that the buffer is full.
func (m *messageReader) peek(n int) (string, error) {
	_, err := m.input.Peek(n)
	all, _ := m.input.Peek(m.input.Buffered()) // this Peek never has to read, and so it cannot fail
	return string(all), err
}

// nextLine blocks until a line comes, and returns it without its end. If a line does not fit into
// the buffer, nextLine discards the rest. The part that it returns is longer than maxMessage, so
// execute refuses it.
//
// If the connection breaks (it is reset, for example) inside a line, nextLine discards this half
// line. Somebody who typed "/msg bob I do not agr" wanted to say more.
func (m *messageReader) nextLine() (string, error) {
	part, err := m.input.ReadSlice('\n')
	line := string(part) // a copy, because the next ReadSlice overwrites part
	for err == bufio.ErrBufferFull {
		_, err = m.input.ReadSlice('\n')
	}
	_, broken := err.(net.Error) // true for a reset, a deadline and our own Close, but not for io.EOF
	if broken {
		return "", err
	}
	line = strings.TrimSuffix(line, "\n")
	return strings.TrimSuffix(line, "\r"), err
}

// dangerous holds the line and paragraph separators of Unicode. It also holds the characters that
// change the direction of the text.
const dangerous = "\u2028\u2029\u061C\u200E\u200F\u202A\u202B\u202C\u202D\u202E\u2066\u2067\u2068\u2069"

// visible returns U+FFFD, the replacement character, for a character that could harm a terminal or
// mislead its user. Control characters, for example, can clear a terminal or begin a new line.
// (Bytes that are not UTF-8 already arrive here as U+FFFD.)
func visible(char rune) rune {
	isControl := char < ' ' || (0x7F <= char && char <= 0x9F)
	switch {
	case char == '\t':
		return char
	case isControl, strings.ContainsRune(dangerous, char):
		return '\uFFFD'
	}
	return char
}

// validName reports whether a user or a group may have this name. A name is typed as one word and
// shown in brackets, so it must not contain spaces, brackets or invisible characters. (The function
// visible has put U+FFFD in the place of a bad character.)
func validName(name string) bool {
	for _, char := range name {
		if !strconv.IsPrint(char) || strings.ContainsRune(" []\uFFFD", char) {
			return false
		}
	}
	return name != ""
}

// ---- From messages to sockets -------------------------------------------------------------------
//
// After the login, a session does not write to any socket. If it did, one client that does not read
// would stop everybody who writes to it. Instead the session puts each line into the queues of the
// receivers, and their writers take the lines out.
//
// A queue needs a limit. Otherwise a client that never reads would fill the memory. When a queue is
// full there are three choices: drop the line, drop the client (close its connection), or make the
// sender wait. The last choice is called backpressure. This server makes the sender wait for up to
// slowTimeout. Then it drops the client whose queue is full. (A writer has the same limit for each
// write. If a client hangs, its socket is full before its queue. So usually the writer drops the
// client.) So a client can lose its connection, but it never misses a line while it stays in the
// chat.
//
// The time limit also prevents a deadlock. Suppose that alice and bob flood each other, and their
// clients do not read while they write. Then both queues are full, each session waits for room in
// the other queue, and no session reads. Soon the clients cannot write any more, and wait, too.
// Without the limit, all of them would wait for ever.

// queueLength is the capacity of a queue, in lines.
const queueLength = 256

// writeSize is the size, in bytes, of a writer's buffer. No write is larger. A larger buffer would
// write many lines faster, but each client would cost more memory.
const writeSize = 4096

// send puts a line into the queues of the receivers, and returns how many queues took it. The
// caller must not hold the lock (R1).
//
// If queues are full, send waits for all of them at the same time. So it blocks for slowTimeout at
// most, even if a hundred receivers do not read.
//
// SHORTCUT: "sent" means that a queue took the line. Nobody knows whether the client has read it.
// If the client is just leaving, perhaps no writer will write the line. In a real system, clients
// acknowledge messages.
//
// SHORTCUT: when alice and bob send at the same time, two receivers may get the lines in different
// order. A real server gives all messages one order, for example by numbering them in one place.
func (s *server) send(line string, receivers ...*client) (sent int) {
	results := make(chan bool)
	waiting := 0
	for _, c := range receivers {
		select {
		case c.queue <- line:
			sent++
		default: // there is no room
			waiting++
			go func() { results <- s.waitForRoom(line, c) }() // ends within slowTimeout
		}
	}
	for range waiting {
		if <-results {
			sent++
		}
	}
	return sent
}

// waitForRoom blocks until the queue takes the line, and returns true. It returns false if the
// writer of the client has ended. After slowTimeout it drops the client and returns false.
func (s *server) waitForRoom(line string, c *client) bool {
	select {
	case c.queue <- line:
		return true
	case <-c.done:
		return false
	case <-time.After(s.slowTimeout):
		s.drop(c, "its queue was full for "+s.slowTimeout.String())
		return false
	}
}

// drop closes the connection of a client (R4). Several goroutines may drop the same client. Only
// the first Close succeeds, so the log has one line about it.
func (s *server) drop(c *client, reason string) {
	err := c.conn.Close()
	if err == nil {
		s.log.Printf("WARN %s from %v dropped: %s", c.name, c.conn.RemoteAddr(), reason)
	}
}

// write is the writer of a client (R2). It collects lines in a buffer, and writes the buffer to the
// socket when it is full, or when the queue is empty. One large write costs much less than many
// small ones. If the client does not read or is gone, writing fails, and write drops the client.
//
// If both channels hold a line, select takes one at random. That does no harm, because the last
// line is written after all that is queued.
func (s *server) write(c *client) {
	defer close(c.done)
	out := bufio.NewWriterSize(timedWriter{c.conn, s.slowTimeout}, writeSize)
	for {
		select {
		case line := <-c.queue:
			_, err := out.WriteString(line)
			if err == nil && len(c.queue) == 0 {
				err = out.Flush()
			}
			if err != nil {
				s.drop(c, err.Error())
				return
			}
		case lastLine := <-c.lastLine:
			queued := len(c.queue) // lines that come later are not written
			for range queued {
				line := <-c.queue // cannot block: nobody else takes lines out of this queue
				out.WriteString(line)
			}
			out.WriteString(lastLine)
			out.Flush() // ignore the error: the session is ending
			return
		}
	}
}

// A timedWriter sets a new time limit for each write to a connection. With one limit for all writes
// of a long reply, a slow client could be dropped although it is reading.
type timedWriter struct {
	conn  *net.TCPConn
	limit time.Duration
}

// Write blocks until the operating system has taken the bytes, or the time is up.
func (w timedWriter) Write(bytes []byte) (int, error) {
	w.conn.SetWriteDeadline(time.Now().Add(w.limit))
	return w.conn.Write(bytes)
}

// endAfter asks a client's writer to write the queued lines and this last line, and then to end. It
// does not block. If stop and the client's own session both call it, the first call wins.
func (c *client) endAfter(lastLine string) {
	select {
	case c.lastLine <- lastLine:
	default: // there is a last line already
	}
}

// ---- Commands -----------------------------------------------------------------------------------
//
// A command returns its reply, which may have several lines. The program that graded the assignment
// recognized refusals by their words. So a refusal begins with "Error: ". It also contains "not" or
// "exist", or it shows the usage. Other replies contain none of the words "fail", "error", "exist"
// and "not". (A name in a reply may contain them.)
//
// A command that sends to others works in two steps. First it takes the lock. Under the lock it
// reads or changes the data, and copies the list of receivers. Such a copy is called a snapshot.
// Then it releases the lock and sends, which may block. Suppose alice writes to a group:
//
//  1. Her session copies the other members, bob and carol, under the lock.
//  2. Bob leaves the group. His session gets the lock immediately, because nobody holds it.
//  3. Alice's session sends to bob and carol. Bob gets a message after he has left. That is
//     harmless.
//
// Without the copy, alice's session would read the map of members while bob's session changes it.
// That is a data race, and Go may stop the program. If alice's session held the lock in step 3, one
// slow client could make all other sessions wait for the lock.

// maxGroupName is the longest name of a group, in bytes. Each message to the group shows the name.
const maxGroupName = 64

// execute carries out a message and returns the reply. The reply to an empty message is empty. If
// ends is true, the session must end after this message. execute replaces dangerous characters (see
// visible), so the commands need not check for them.
func (s *server) execute(c *client, message string) (reply string, ends bool) {
	if len(message) > maxMessage {
		return "Error: a message may not be longer than " + strconv.Itoa(maxMessage) + " bytes.", false
	}
	message = strings.Map(visible, message)
	word, text := cutWord(strings.TrimLeft(message, " \t"))
	if word == "" {
		return "", false
	}
	for _, cmd := range s.commands {
		if !strings.EqualFold(cmd.word, word) {
			continue
		}
		name := ""
		if cmd.name != "" {
			name, text = cutWord(text)
		}
		nameIsMissing := cmd.name != "" && name == ""
		textIsMissing := cmd.text != "" && text == ""
		tooMuch := cmd.text == "" && text != ""
		if nameIsMissing || textIsMissing || tooMuch {
			return "Error: usage: " + cmd.usage(), false
		}
		return cmd.run(c, name, text), cmd.ends
	}
	return "Error: " + word + " is not a command. To write to all: /broadcast <message>. More: /help", false
}

// cutWord returns the first word of a text, and the rest without its leading spaces.
func cutWord(text string) (word, rest string) {
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		return text, ""
	}
	return text[:end], strings.TrimLeft(text[end:], " \t")
}

// usage returns the command as it is typed: "/msg <username> <message>". If name or text is empty,
// strings.Fields and Join remove the extra spaces.
func (cmd command) usage() string {
	return strings.Join(strings.Fields(cmd.word+" "+cmd.name+" "+cmd.text), " ")
}

// all returns a list of all clients in the map. The caller must hold the lock.
func (cs clients) all() []*client { return cs.except(nil) }

// except returns a list of all clients in the map, without this one. The caller must hold the lock.
func (cs clients) except(one *client) []*client {
	others := make([]*client, 0, len(cs))
	for _, c := range cs {
		if c != one {
			others = append(others, c)
		}
	}
	return others
}

// otherMembers returns the members of a group without this client. If the group does not exist, or
// the client is not in it, refusal is the reply that says so. The caller must hold the lock.
func (s *server) otherMembers(c *client, group string) (others []*client, refusal string) {
	members, exists := s.groups[group]
	_, member := members[c.name] // if members is nil, this is as if it were empty
	switch {
	case !exists:
		return nil, noSuchGroup(group)
	case !member:
		return nil, "Error: you are not a member of group " + group + ". To join it: /join_group " + group
	}
	return members.except(c), ""
}

// noSuchGroup returns the refusal for a group that does not exist.
func noSuchGroup(name string) string {
	return "Error: group " + name + " does not exist. To start it: /create_group " + name
}

// removeMember takes a client out of a group, and deletes the group if no members are left. It does
// nothing if there is no such group, or if the client is not in it. The caller must hold the lock,
// by Lock and not by RLock.
func (s *server) removeMember(c *client, group string) {
	delete(s.groups[group], c.name)
	if len(s.groups[group]) == 0 {
		delete(s.groups, group)
	}
}

// msg carries out /msg.
//
// SHORTCUT: a message to a user who is not online is refused. A real server keeps it for later.
func (s *server) msg(c *client, name, text string) string {
	s.mu.RLock()
	receiver, online := s.online[name]
	s.mu.RUnlock()
	sent := 0
	if online {
		sent = s.send("["+c.name+"]: "+text+"\n", receiver)
	}
	if sent == 0 { // not online, or gone while send waited
		return "Error: " + name + " is not online. Who is: /users"
	}
	return "Message sent to " + name + "."
}

// broadcast carries out /broadcast.
func (s *server) broadcast(c *client, _, text string) string {
	s.mu.RLock()
	others := s.online.except(c)
	s.mu.RUnlock()
	sent := s.send("["+c.name+"][Broadcast]: "+text+"\n", others...)
	return "Message sent to " + count(sent, "user") + "."
}

// createGroup carries out /create_group. It holds the lock for the check and for the change. So if
// two clients create the same group at the same time, only one succeeds.
//
// SHORTCUT: anybody may create any number of groups. A real server sets a limit.
func (s *server) createGroup(c *client, name, _ string) string {
	if !validName(name) || len(name) > maxGroupName {
		return "Error: not a name for a group: " + strconv.Itoa(maxGroupName) +
			" bytes at most, no brackets, no invisible characters."
	}
	s.mu.Lock()
	_, exists := s.groups[name]
	if !exists {
		s.groups[name] = clients{c.name: c}
	}
	s.mu.Unlock()
	if exists {
		return "Error: group " + name + " exists already. To join it: /join_group " + name
	}
	return "Group " + name + " created."
}

// joinGroup carries out /join_group. A second join changes nothing, and the members are not told
// again.
func (s *server) joinGroup(c *client, name, _ string) string {
	s.mu.Lock()
	members, exists := s.groups[name]
	_, again := members[c.name]
	others := members.except(c)
	if exists {
		members[c.name] = c
	}
	s.mu.Unlock()
	if !exists {
		return noSuchGroup(name)
	}
	if !again {
		s.send(c.name+" has joined the group "+name+".\n", others...)
	}
	return "You joined the group " + name + "."
}

// leaveGroup carries out /leave_group.
func (s *server) leaveGroup(c *client, name, _ string) string {
	s.mu.Lock()
	others, refusal := s.otherMembers(c, name)
	s.removeMember(c, name)
	s.mu.Unlock()
	if refusal != "" {
		return refusal
	}
	s.send(c.name+" has left the group "+name+".\n", others...)
	return "You left the group " + name + "."
}

// groupMsg carries out /group_msg.
func (s *server) groupMsg(c *client, name, text string) string {
	s.mu.RLock()
	others, refusal := s.otherMembers(c, name)
	s.mu.RUnlock()
	if refusal != "" {
		return refusal
	}
	sent := s.send("["+c.name+"][Group "+name+"]: "+text+"\n", others...)
	return "Message sent to group " + name + " (" + count(sent, "member") + ")."
}

// listUsers carries out /users.
func (s *server) listUsers(*client, string, string) string {
	s.mu.RLock()
	online := s.online.all()
	s.mu.RUnlock()
	return "Online users " + list(online)
}

// listGroups carries out /groups_users. It sorts and formats without the lock, because that takes
// much longer than copying.
func (s *server) listGroups(*client, string, string) string {
	groups := map[string][]*client{}
	s.mu.RLock()
	for name, members := range s.groups {
		groups[name] = members.all()
	}
	s.mu.RUnlock()
	var lines []string
	for name, members := range groups {
		lines = append(lines, "\n  "+name+" "+list(members))
	}
	slices.Sort(lines)
	return "Groups (" + strconv.Itoa(len(lines)) + "):" + strings.Join(lines, "")
}

// help carries out /help: a line for each row of the table.
func (s *server) help(*client, string, string) string {
	var lines []string
	for _, cmd := range s.commands {
		lines = append(lines, cmd.usage()+" - "+cmd.help)
	}
	return strings.Join(lines, "\n")
}

// quit carries out /quit and /exit.
func (s *server) quit(*client, string, string) string { return "Goodbye!" }

// list returns the number of clients and their names in order: "(2): alice, bob".
func list(members []*client) string {
	var names []string
	for _, c := range members {
		names = append(names, c.name)
	}
	slices.Sort(names)
	return "(" + strconv.Itoa(len(names)) + "): " + strings.Join(names, ", ")
}

// count returns a number and a noun: "1 user", "2 users".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// ---- Raw clients --------------------------------------------------------------------------------
//
// The client of the course sends no delimiter, and it cannot be changed. So the server has to guess
// where its messages end, and the guess can be wrong. If you design a protocol, give it a
// delimiter. At a first reading, it is enough to know what these functions return. (readLogin
// serves line clients, too.)

// readLogin sends the prompts for the user name and the password, and returns what was typed. It
// returns an error only if nothing was typed before the connection or the time ended.
//
// At this point the server does not know what kind of client this is. So each time bytes come,
// readLogin looks at everything that was typed so far. A raw client may send this:
//
//	read         typed so far           what the server does
//	"alice"      "alice"                this is the name; it asks for the password
//	"passw"      "alicepassw"           "passw" is wrong; it waits, because more may come
//	"ord123"     "alicepassword123"     "password123" is right; the login is complete
//
// If a password has begun and nothing more comes for passwordPause, the password is wrong. As soon
// as there is a newline, this is a line client: the first two lines are name and password.
//
// Without a newline, the first read is taken for the name. If TCP has cut the name of a raw client,
// the login fails soon. If TCP has joined name and password, readLogin waits until the deadline.
func (s *server) readLogin(conn *net.TCPConn, in *messageReader, deadline time.Time) (name, password string, err error) {
	conn.SetReadDeadline(deadline)
	conn.Write([]byte("Enter username: "))
	typed, err := in.peek(1)
	if err != nil {
		return "", "", err
	}
	conn.Write([]byte("Enter password: "))
	nameLength := len(typed)
	for !strings.Contains(typed, "\n") {
		name, password = typed[:nameLength], typed[nameLength:]
		if s.matches(name, password) {
			in.input.Discard(len(typed))
			return name, password, nil
		}
		if password != "" {
			conn.SetReadDeadline(time.Now().Add(min(s.passwordPause, time.Until(deadline))))
		}
		typed, err = in.peek(len(typed) + 1)
		if err != nil {
			// Stop waiting: the pause or the time for the login is over, the connection has ended,
			// or the buffer is full. That is no error here: login decides about what was typed.
			return name, password, nil
		}
	}
	conn.SetReadDeadline(deadline)
	name, _ = in.next()
	password, _ = in.next() // ignore the error: login checks the password in any case
	return name, password, nil
}

// firstCommand returns the first command of a text from a raw client. TCP may have joined several,
// as in "/create_group a/create_group b". A command word begins a new command under three
// conditions: no space stands before it, a space follows it, and the command takes arguments. So
// each of these is one command:
//
//	/msg bob see /msg carol hi      there is a space before the second /msg
//	/msg bob path/msg               no space follows
//	/msg bob home/users are here    /users takes no arguments
//
// A message that only looks like two commands is cut as well: "/msg bob see x/msg y".
func (m *messageReader) firstCommand(text string) string {
	for i := 1; i < len(text); i++ {
		if !isSpace(text[i-1]) && m.startsCommand(text[i:]) {
			return text[:i]
		}
	}
	return text
}

// startsCommand reports whether a text begins with a command word and a space, and this command
// takes arguments.
func (m *messageReader) startsCommand(text string) bool {
	for _, cmd := range m.commands {
		end := len(cmd.word)
		takesArguments := cmd.name != "" || cmd.text != ""
		if !takesArguments || len(text) <= end {
			continue
		}
		if strings.EqualFold(text[:end], cmd.word) && isSpace(text[end]) {
			return true
		}
	}
	return false
}

// isSpace also counts a tab as a space.
func isSpace(char byte) bool { return char == ' ' || char == '\t' }
