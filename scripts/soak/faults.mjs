// The faults of a soak: each begins, lasts for a while, and is taken back.
import { restoreRoutes } from './ground.mjs'
import { IPV4, IPV6 } from './streams.mjs'

/**
 * name → { begin, end }. `ground` is the two namespaces, `sender` the sending process.
 * 'synchronous' faults are those of which the kernel tells in the call that sends; the others lose packets that it took.
 */
export const FAULTS = {
  refused: {
    begin: ({ ground }) => ground.in('a', 'nft add rule inet soak out udp dport 7148-7154 counter drop'),
    end: ({ ground }) => ground.in('a', 'nft flush chain inet soak out'),
  },
  'link down': {
    begin: ({ ground }) => ground.ip('a', 'link set v0 down'),
    end({ ground }) {
      ground.ip('a', 'link set v0 up')
      restoreRoutes(ground)
    },
  },
  'carrier lost': {
    silent: true,
    begin: ({ ground }) => ground.ip('b', 'link set v1 down'),
    end: ({ ground }) => ground.ip('b', 'link set v1 up'),
  },
  'other route': {
    begin({ ground }) {
      ground.ip('a', `route replace ${IPV4.far}/32 via ${IPV4.other}`)
      ground.ip('a', `route replace ${IPV6.far}/128 via ${IPV6.other}`)
    },
    end: ({ ground }) => restoreRoutes(ground),
  },
  'no route': {
    begin({ ground }) {
      ground.ip('a', `route del ${IPV4.far}/32`)
      ground.ip('a', `route del ${IPV6.far}/128`)
    },
    end: ({ ground }) => restoreRoutes(ground),
  },
  'address gone': {
    begin({ ground }) {
      ground.ip('a', `address del ${IPV4.sender}/24 dev v0`)
      ground.ip('a', `address del ${IPV6.sender}/64 dev v0`)
    },
    end({ ground }) {
      ground.ip('a', `address add ${IPV4.sender}/24 dev v0`)
      ground.ip('a', `address add ${IPV6.sender}/64 dev v0 nodad`)
      restoreRoutes(ground)
    },
  },
  'full queue': {
    begin: ({ ground }) => ground.in('a', 'tc qdisc replace dev v0 root tbf rate 80mbit burst 20kb limit 30kb'),
    end: ({ ground }) => ground.in('a', 'tc qdisc del dev v0 root'),
  },
  'smaller MTU': {
    begin: ({ ground }) => ground.ip('a', 'link set v0 mtu 1400'),
    end: ({ ground }) => ground.ip('a', 'link set v0 mtu 1500'),
  },
  'no segmentation': {
    begin: ({ ground }) => ground.ip('a', 'link set v0 gso_max_segs 1'),
    end: ({ ground }) => ground.ip('a', 'link set v0 gso_max_segs 65535'),
  },
  'neighbour forgotten': {
    begin({ ground }) {
      for (const family of ['-4', '-6'])
        try {
          ground.ip('a', `${family} neigh flush dev v0`)
        } catch {} // It gives up after ten rounds, each of which forgot them, where packets bring them back at once.
    },
    end: () => {},
  },
  'process stopped': {
    begin: ({ sender }) => sender.kill('SIGSTOP'),
    end: ({ sender }) => sender.kill('SIGCONT'),
  },
}
