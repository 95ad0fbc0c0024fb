# kernel.mk first: packages look at what it defines for them.
include $(BR2_EXTERNAL_SARAI_PATH)/kernel.mk
include $(sort $(wildcard $(BR2_EXTERNAL_SARAI_PATH)/package/*/*.mk))
