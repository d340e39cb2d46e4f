/* Names of statuses, events, states and nodes, for programs that print them and for the fault commands. */
#include <string.h>

#include "softnic.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

static const struct {
  const char *name, *text;
} statuses[] = {
    [IBV_WC_SUCCESS] = {"SUCCESS", "success"},
    [IBV_WC_LOC_LEN_ERR] = {"LOC_LEN_ERR", "local length error"},
    [IBV_WC_LOC_QP_OP_ERR] = {"LOC_QP_OP_ERR", "local QP operation error"},
    [IBV_WC_LOC_EEC_OP_ERR] = {"LOC_EEC_OP_ERR", "local EE context operation error"},
    [IBV_WC_LOC_PROT_ERR] = {"LOC_PROT_ERR", "local protection error"},
    [IBV_WC_WR_FLUSH_ERR] = {"WR_FLUSH_ERR", "work request flushed error"},
    [IBV_WC_MW_BIND_ERR] = {"MW_BIND_ERR", "memory window bind error"},
    [IBV_WC_BAD_RESP_ERR] = {"BAD_RESP_ERR", "bad response error"},
    [IBV_WC_LOC_ACCESS_ERR] = {"LOC_ACCESS_ERR", "local access error"},
    [IBV_WC_REM_INV_REQ_ERR] = {"REM_INV_REQ_ERR", "remote invalid request error"},
    [IBV_WC_REM_ACCESS_ERR] = {"REM_ACCESS_ERR", "remote access error"},
    [IBV_WC_REM_OP_ERR] = {"REM_OP_ERR", "remote operation error"},
    [IBV_WC_RETRY_EXC_ERR] = {"RETRY_EXC_ERR", "transport retry counter exceeded"},
    [IBV_WC_RNR_RETRY_EXC_ERR] = {"RNR_RETRY_EXC_ERR", "RNR retry counter exceeded"},
    [IBV_WC_LOC_RDD_VIOL_ERR] = {"LOC_RDD_VIOL_ERR", "local RDD violation error"},
    [IBV_WC_REM_INV_RD_REQ_ERR] = {"REM_INV_RD_REQ_ERR", "remote invalid RD request"},
    [IBV_WC_REM_ABORT_ERR] = {"REM_ABORT_ERR", "remote aborted error"},
    [IBV_WC_INV_EECN_ERR] = {"INV_EECN_ERR", "invalid EE context number"},
    [IBV_WC_INV_EEC_STATE_ERR] = {"INV_EEC_STATE_ERR", "invalid EE context state"},
    [IBV_WC_FATAL_ERR] = {"FATAL_ERR", "fatal error"},
    [IBV_WC_RESP_TIMEOUT_ERR] = {"RESP_TIMEOUT_ERR", "response timeout error"},
    [IBV_WC_GENERAL_ERR] = {"GENERAL_ERR", "general error"},
    [IBV_WC_TM_ERR] = {"TM_ERR", "tag matching error"},
    [IBV_WC_TM_RNDV_INCOMPLETE] = {"TM_RNDV_INCOMPLETE", "tag matching rendezvous incomplete"},
};

static const char *const events[] = {
    [IBV_EVENT_CQ_ERR] = "CQ error",
    [IBV_EVENT_QP_FATAL] = "local work queue catastrophic error",
    [IBV_EVENT_QP_REQ_ERR] = "invalid request local work queue error",
    [IBV_EVENT_QP_ACCESS_ERR] = "local access violation work queue error",
    [IBV_EVENT_COMM_EST] = "communication established",
    [IBV_EVENT_SQ_DRAINED] = "send queue drained",
    [IBV_EVENT_PATH_MIG] = "path migrated",
    [IBV_EVENT_PATH_MIG_ERR] = "path migration request error",
    [IBV_EVENT_DEVICE_FATAL] = "local catastrophic error",
    [IBV_EVENT_PORT_ACTIVE] = "port active",
    [IBV_EVENT_PORT_ERR] = "port error",
    [IBV_EVENT_LID_CHANGE] = "LID change",
    [IBV_EVENT_PKEY_CHANGE] = "P_Key change",
    [IBV_EVENT_SM_CHANGE] = "SM change",
    [IBV_EVENT_SRQ_ERR] = "SRQ catastrophic error",
    [IBV_EVENT_SRQ_LIMIT_REACHED] = "SRQ limit reached",
    [IBV_EVENT_QP_LAST_WQE_REACHED] = "last WQE reached",
    [IBV_EVENT_CLIENT_REREGISTER] = "client reregistration",
    [IBV_EVENT_GID_CHANGE] = "GID table change",
    [IBV_EVENT_WQ_FATAL] = "WQ fatal",
};

static const char *const states[] = {"no state change", "down", "init", "armed", "active", "active deferred"};
static const char *const nodes[] = {"unknown",  "channel adapter", "switch",    "router",
                                    "RDMA NIC", "usNIC",           "usNIC UDP", "unspecified"};

const char *ibv_wc_status_str(enum ibv_wc_status status) {
  return status < COUNT(statuses) ? statuses[status].text : "unknown";
}

int status_by_name(const char *name) {
  for (size_t i = 0; i < COUNT(statuses); i++)
    if (!strcmp(name, statuses[i].name)) return i;
  return -1;
}

const char *ibv_event_type_str(enum ibv_event_type event) {
  return event < COUNT(events) ? events[event] : "unknown";
}

const char *ibv_port_state_str(enum ibv_port_state state) {
  return state < COUNT(states) ? states[state] : "unknown";
}

const char *ibv_node_type_str(enum ibv_node_type type) {
  return type >= 0 && (size_t)type < COUNT(nodes) ? nodes[type] : "unknown";
}
